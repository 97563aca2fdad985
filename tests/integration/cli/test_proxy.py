"""A proxy in the environment: bypassed on this host, named in the error for others."""

from __future__ import annotations

import pytest

from tests.support.launched_sender import run_sender
from tests.support.running_server import running_server


@pytest.fixture
def proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a proxy that is not there, set for all programs."""
    address = f"127.0.0.1:{port}"
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{address}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    return address


@pytest.mark.usefixtures("proxy")
async def test_programs_and_agents_reach_a_server_on_this_host_past_it(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        assert (await run_sender(server.address, "list")).code == 0
        assert (await run_sender(f"localhost:{server.process.port}", "list")).code == 0


async def test_it_is_named_where_it_is_in_the_way(proxy: str) -> None:
    finished = await run_sender("server.example:50051", "list")

    assert finished.code == 5
    assert f"through the proxy {proxy} set in grpc_proxy" in finished.stderr
