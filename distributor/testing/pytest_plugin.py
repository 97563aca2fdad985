"""The fixtures for pytest, which finds them by the entry point `distributor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from distributor.testing import local_server

if TYPE_CHECKING:
    from distributor.testing.served_agent import ServedAgent
    from distributor.testing.server import LocalServer


@pytest.fixture(scope="session")
def distributor_server() -> Iterator[LocalServer]:
    """A server with an embedded Valkey, for all tests of this run."""
    with local_server() as server:
        yield server


@pytest.fixture
def distributor_agent(distributor_server: LocalServer) -> Iterator[Callable[..., ServedAgent]]:
    """Serves handlers for one test: call it with the arguments of `LocalServer.agent`, once for each agent."""
    with ExitStack() as stack:

        def serve(handlers: Any, **options: Any) -> ServedAgent:
            return stack.enter_context(distributor_server.agent(handlers, **options))

        yield serve
