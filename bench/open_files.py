"""The limit of open files: each agent takes one in the server and one in its own process."""

from __future__ import annotations

from bench.findings import BenchFailed
from distributor.processes.open_files import raise_open_files_limit

SPARE_FILES = 500
"""For everything but agents: connections to Valkey, logs, libraries."""


def permit_open_files(agents: int) -> None:
    """Raise this process's limit, which its children inherit, as far as permitted.

    Raises BenchFailed if that is too low for a server with this number of agents.
    """
    permitted, needed = raise_open_files_limit(), agents + SPARE_FILES
    if permitted < needed:
        raise BenchFailed(
            f"{agents:,} agents need {needed:,} open files and the hard limit is {permitted:,}: raise it "
            "(ulimit -Hn), or select scenarios with fewer agents (--only)"
        )
