from __future__ import annotations

import pytest

from distributor.cli.credentials import enrol_command


@pytest.mark.parametrize(
    ("agents", "command"),
    [
        ("web-1", "command-agent enrol --agent web-1 --server HOST:PORT < TOKEN"),
        ("web-*", "command-agent enrol --agent ID --server HOST:PORT < TOKEN"),
    ],
    ids=["one", "group"],
)
def test_the_hint_names_the_agent_that_the_token_admits(agents: str, command: str) -> None:
    assert enrol_command(agents) == command
