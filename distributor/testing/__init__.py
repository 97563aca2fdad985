"""Runs handlers against a real server in tests.

With pytest, the fixture `distributor_agent` is there once this package is installed:

    def test_it(distributor_agent):
        outcome = distributor_agent(handlers={"deploy": deploy}).run("deploy", {"version": "1"})
        assert outcome.status == "completed"

Without pytest, `local_server` is a context manager. docs/agents.md has more examples. Imports nothing slow, since
pytest imports it in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.testing.running_command import Outcome, RunningCommand
    from distributor.testing.served_agent import ServedAgent
    from distributor.testing.server import LocalServer

__all__ = ["LocalServer", "Outcome", "RunningCommand", "ServedAgent", "local_server"]


def local_server() -> LocalServer:
    """A server with an embedded Valkey, as a context manager. Needs the extra `embedded`.

    Enter it on the main thread. Raises Unavailable on entry if the server does not start, with the reason.
    """
    from distributor.testing.server import LocalServer

    return LocalServer()
