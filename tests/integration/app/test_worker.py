"""A server as a worker, in the process of the test."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from distributor.app.server_process import Worker, serving
from distributor.app.worker_place import WorkerPlace
from distributor.client import CommandClient, CommandRequest
from distributor.store.embedded import EmbeddedValkey
from tests.support.running_server import quick_settings
from tests.support.waiting import until
from tests.support.wire_agent import wire_agent


async def test_a_worker_waits_for_the_fsync_of_its_supervisor(tmp_path: Path) -> None:
    synced: list[int] = []
    async with EmbeddedValkey(tmp_path / "data") as valkey:

        async def sync() -> None:
            await valkey.cadence.sync()
            synced.append(1)

        settings = quick_settings("", durability="disk", data_dir=tmp_path / "data", workers=2)
        worker = Worker(WorkerPlace(0, "127.0.0.1:0", embedded_url=valkey.url), sync)
        async with serving(settings, worker=worker) as server, CommandClient(f"127.0.0.1:{server.port}") as client:
            assert (server.http_port, server.faults()) == (0, {"valkey": None, "draining": None})
            async with wire_agent(f"127.0.0.1:{server.port}"):
                pass
            before = len(synced)
            await client.queue(CommandRequest("agent123", "PRINT"))
            assert len(synced) > before


async def test_a_failed_fsync_of_the_supervisor_is_not_acknowledged(tmp_path: Path) -> None:
    broken: list[bool] = []
    async with EmbeddedValkey(tmp_path / "data") as valkey:

        async def sync() -> None:
            if broken:
                broken.append(True)
                raise OSError("the disk is broken")

        settings = quick_settings("", durability="disk", data_dir=tmp_path / "data", workers=2)
        worker = Worker(WorkerPlace(0, "127.0.0.1:0", embedded_url=valkey.url), sync)
        async with serving(settings, worker=worker) as server, CommandClient(f"127.0.0.1:{server.port}") as client:
            async with wire_agent(f"127.0.0.1:{server.port}"):
                pass
            broken.append(True)
            queueing = asyncio.ensure_future(client.queue(CommandRequest("agent123", "PRINT")))
            await until(lambda: len(broken) > 1)
            assert not queueing.done()
            broken.clear()
            await queueing


async def test_one_process_shares_no_port_whatever_the_setting(valkey_url: str) -> None:
    # As `dev`, `demo` and tests run a server.
    async with serving(quick_settings(valkey_url, workers=2)) as server:
        with socket.socket() as another:
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="Address already in use"):
                another.bind(("127.0.0.1", server.port))
        assert server.http_port
