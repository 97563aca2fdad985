from __future__ import annotations

import pytest

from distributor.cli.credentials import enrol_command, make_token
from distributor.errors import ConfigurationError


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


def test_the_lifetime_of_a_token_is_checked_before_the_server_is_called() -> None:
    with pytest.raises(ConfigurationError, match=r"--expires-in must be 1 s to 30 d, such as 90s, 15m, 12h or 7d, not"):
        make_token("web-1", (), 1, "31d")
