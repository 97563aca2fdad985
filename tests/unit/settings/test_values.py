from __future__ import annotations

import pytest

from distributor.settings import is_loopback


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_who_can_reach_a_host(host: str, only_here: bool) -> None:
    assert is_loopback(host) == only_here
