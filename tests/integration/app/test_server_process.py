"""A server whose parts fail or hang: what was started is stopped all the same, in bounded time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from distributor.app.server_process import serving
from distributor.app.timing import ServerTiming
from distributor.rpc.agent_gateway import AgentGateway
from distributor.rpc.server import GrpcServer, Listener
from distributor.store.embedded import EmbeddedValkey
from distributor.store.exchanges import Exchanges
from tests.support.own_logs import own_logs
from tests.support.running_server import quick_settings


async def hang(*_: Any) -> None:
    await asyncio.Event().wait()


async def fail(*_: Any) -> None:
    raise RuntimeError("it failed")


async def can_connect(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[EmbeddedValkey]:
    """The embedded Valkeys that were started."""
    valkeys: list[EmbeddedValkey] = []
    start = EmbeddedValkey.start

    async def noted(valkey: EmbeddedValkey) -> None:
        await start(valkey)
        valkeys.append(valkey)

    monkeypatch.setattr(EmbeddedValkey, "start", noted)
    return valkeys


async def test_every_step_of_stopping_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[EmbeddedValkey]
) -> None:
    monkeypatch.setattr(AgentGateway, "idle", hang)
    monkeypatch.setattr(Exchanges, "idle", hang)
    settings = quick_settings("", data_dir=tmp_path, drain_timeout=0.0)
    async with serving(settings, timing=ServerTiming(shutdown_step=0.5)) as server:
        monkeypatch.setattr(GrpcServer, "set_serving", hang)
        with own_logs() as logs:
            await server.stop()
    unfinished = [line["step"] for line in logs if line["event"] == "shutdown step timed out, continuing"]
    assert unfinished[:1] == ["draining"]
    assert {"streams", "calls to Valkey"} <= set(unfinished)
    assert started[0].pid is None
    assert not await can_connect(server.port)


async def test_a_step_that_fails_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[EmbeddedValkey]
) -> None:
    monkeypatch.setattr(AgentGateway, "idle", fail)
    with pytest.raises(RuntimeError, match="it failed"):
        async with serving(quick_settings("", data_dir=tmp_path)) as server:
            monkeypatch.setattr(GrpcServer, "set_serving", fail)
    assert started[0].pid is None
    assert not await can_connect(server.port)
    assert not await can_connect(server.http_port)


async def test_a_start_that_fails_late_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[EmbeddedValkey]
) -> None:
    start = GrpcServer.start
    ports: list[int] = []
    served: list[bool] = []

    async def noted(grpc_server: GrpcServer, *listeners: Listener) -> list[int]:
        ports.extend(await start(grpc_server, *listeners))
        return ports

    async def set_serving(_: GrpcServer, value: bool) -> None:
        served.append(value)
        raise RuntimeError("it failed")

    monkeypatch.setattr(GrpcServer, "start", noted)
    monkeypatch.setattr(GrpcServer, "set_serving", set_serving)
    with pytest.raises(RuntimeError, match="it failed"):
        await serving(quick_settings("", data_dir=tmp_path)).__aenter__()
    assert served[0] is True
    assert not await can_connect(ports[0])
    assert started[0].pid is None


async def test_the_loops_run_before_the_first_call_is_accepted(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = GrpcServer.start
    loops: set[str] = set()

    async def noted(grpc_server: GrpcServer, *listeners: Listener) -> list[int]:
        loops.update(task.get_name() for task in asyncio.all_tasks())
        return await start(grpc_server, *listeners)

    monkeypatch.setattr(GrpcServer, "start", noted)
    async with serving(quick_settings(valkey_url)):
        assert {"event relay", "command distributor", "deadlines", "gauges", "health"} <= loops
