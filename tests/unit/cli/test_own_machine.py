from __future__ import annotations

import socket
from typing import Any

import pytest

from distributor.cli.own_machine import is_on_this_machine

NAMES = {"here": ["127.0.1.1"], "both": ["127.0.0.1", "192.0.2.7"], "there": ["192.0.2.7"], "192.0.2.7": ["192.0.2.7"]}


@pytest.mark.parametrize(
    ("servers", "own"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("control.example.org:1", True),
        ("here:1", True),
        ("here:1,127.0.0.1:2", True),
        ("there:1", False),
        ("192.0.2.7:1", False),
        ("both:1", False),
        ("127.0.0.1:1,there:1", False),
        ("unknown:1", False),
    ],
)
def test_a_machine_knows_its_own_addresses(servers: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, port)) for address in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert is_on_this_machine(servers, "control.example.org:50051") is own
