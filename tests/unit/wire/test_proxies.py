"""Proxies that the environment names: bypassed for this host, named in errors for others."""

from __future__ import annotations

import pytest

from distributor.wire.proxies import is_loopback_target, proxy_note
from distributor.wire.transport import channel_options


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "127.8.8.8:1",
        "localhost:50051",
        "[::1]:50051",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "dns:///localhost:1",
        "localhost",
    ],
)
def test_this_host_is_reached_without_a_proxy(target: str) -> None:
    assert is_loopback_target(target)
    assert dict(channel_options(target))["grpc.enable_http_proxy"] == 0


@pytest.mark.parametrize("target", ["10.0.0.1:50051", "server.example:50051", "[fe80::1]:50051", "localhost.example:1"])
def test_other_hosts_are_reached_as_the_environment_says(target: str) -> None:
    assert not is_loopback_target(target)
    assert "grpc.enable_http_proxy" not in dict(channel_options(target))


def test_the_proxy_that_grpc_takes_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://never:8080")
    monkeypatch.setenv("grpc_proxy", "http://user:secret@proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    note = proxy_note("server.example:50051")
    assert note == (
        " (through the proxy proxy.example:3128 set in grpc_proxy; set no_proxy=server.example to bypass it)"
    )
    assert proxy_note("127.0.0.1:50051") == ""


def test_no_proxy_is_named_for_hosts_that_bypass_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "other, .example")
    assert proxy_note("server.example:50051") == ""
    assert "http_proxy" in proxy_note("server.other.net:50051")
