"""The data of the embedded Valkey reaches the disk, whatever happens to its files."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from pathlib import Path

from valkey.asyncio import Valkey

from distributor.store.embedded import EmbeddedValkey
from tests.support.own_logs import own_logs
from tests.support.waiting import until


class WatchedDisk:
    """Knows how much of each file was flushed last."""

    def __init__(self, server: EmbeddedValkey) -> None:
        self.flushed: dict[str, int] = {}
        self.broken = False
        server.cadence.interval_seconds = 0.01
        server.cadence._files._fdatasync = self._fdatasync

    def _fdatasync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        size = os.fstat(descriptor).st_size
        os.fdatasync(descriptor)
        self.flushed[os.readlink(f"/proc/self/fd/{descriptor}")] = size


def newest_file(folder: Path) -> Path:
    files = (folder / "appendonlydir").glob("*.incr.aof")
    return max(files, key=lambda file: int(file.name.split(".")[2]))


async def flushed(disk: WatchedDisk, folder: Path) -> None:
    """Return once all that was written is flushed."""
    await until(lambda: disk.flushed.get(str(newest_file(folder))) == newest_file(folder).stat().st_size > 0)


async def test_it_follows_rewrites_and_restarts(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    disk = WatchedDisk(server)
    async with server, Valkey.from_url(server.url) as client:
        await client.set("key", "first")
        await flushed(disk, tmp_path)
        first = newest_file(tmp_path)
        await client.bgrewriteaof()
        await client.set("key", "during the rewrite")
        await until(lambda: newest_file(tmp_path) != first)
        await flushed(disk, tmp_path)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.ended()
        await server.restart()
        await client.set("key", "after the restart")
        await flushed(disk, tmp_path)


async def test_a_failed_fsync_is_reported_and_mended_by_a_rewrite(tmp_path: Path) -> None:
    seen: list[OSError | None] = []
    with own_logs() as logs:
        server = EmbeddedValkey(tmp_path, synced=lambda seconds, error: seen.append(error))
        disk = WatchedDisk(server)
        async with server, Valkey.from_url(server.url) as client:
            await client.set("key", "value")
            await flushed(disk, tmp_path)
            broken = newest_file(tmp_path)
            disk.broken = True
            await client.set("key", "not on the disk")
            await until(lambda: any(seen))
            disk.broken = False
            await until(lambda: not broken.exists())
            await client.set("key", "in the new file")
            await flushed(disk, tmp_path)
            await until(lambda: seen[-1] is None)
    events = [line["event"] for line in logs]
    assert events == [
        "cannot write the data of Valkey through to the disk",
        "can write the data of Valkey through to the disk again",
    ]
    assert "Input/output error" in logs[0]["error"]


async def test_stopping_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    server = EmbeddedValkey(tmp_path)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = asyncio.Event()

    def hang(descriptor: int) -> None:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    server.cadence._files._fdatasync = hang
    async with server, Valkey.from_url(server.url) as client:
        await client.set("key", "value")
        await began.wait()
    released.set()
    await until(lambda: not any(thread.name.startswith("fsync") for thread in {*threading.enumerate()} - before))
