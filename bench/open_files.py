"""The limit of open files: each agent takes one in the server and one in its own process."""

from __future__ import annotations

import resource

from bench.findings import BenchFailed

SPARE_FILES = 500
"""For everything but agents: connections to Valkey, logs, libraries."""


def permit_open_files(agents: int) -> None:
    """Raise this process's limit, which its children inherit, as far as permitted.

    Raises BenchFailed if the hard limit is too low for a server with this number of agents.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = agents + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchFailed(
            f"{agents:,} agents need {needed:,} open files and the hard limit is {hard:,}: raise it "
            "(ulimit -Hn), or select scenarios with fewer agents (--only)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
