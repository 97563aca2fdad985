"""What a killed Valkey has lost while its disk was slow, and what a loss of power leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from valkey.asyncio import Valkey

from bench.slow_disk import SlowDisk
from distributor.store import embedded
from distributor.store.embedded import EmbeddedValkey
from distributor.store.server_binary import find_server_binary

SLOW_MS = 1_500
"""How long an fsync takes on the slow disk."""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """The disk of every Valkey that the test starts."""
    disk = SlowDisk(tmp_path / "disk")
    monkeypatch.setenv("PATH", str(disk.server_on_path(find_server_binary().path)), prepend=":")
    return disk


async def acknowledged_until_killed(server: EmbeddedValkey, kill_when: Callable[[dict[str, str]], bool]) -> int:
    """Write numbers until `kill_when` likes what Valkey says about its files, kill it, and return the last answered."""
    number = 0
    async with Valkey.from_url(server.url) as writer:
        while True:
            await writer.set("number", number + 1)
            number += 1
            if kill_when(await writer.info("persistence")):
                break
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.ended()
    return number


async def number_after_restart(server: EmbeddedValkey) -> int:
    await server.restart()
    async with Valkey.from_url(server.url) as reader:
        return int(await reader.get("number"))


async def test_everysec_loses_what_it_has_answered_while_an_fsync_is_slow(
    tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_CONFIG", embedded._CONFIG.replace("appendfsync no", "appendfsync everysec"))
    async with EmbeddedValkey(tmp_path / "data") as server:
        disk.set(SLOW_MS)
        acknowledged = await acknowledged_until_killed(server, lambda info: int(info["aof_buffer_length"]) > 1_000)
        assert await number_after_restart(server) < acknowledged


async def test_the_embedded_valkey_loses_nothing_while_fsyncs_are_slow(tmp_path: Path, disk: SlowDisk) -> None:
    async with EmbeddedValkey(tmp_path / "data") as server:
        disk.set(SLOW_MS)
        for _ in range(3):
            many = iter(range(2_000))
            acknowledged = await acknowledged_until_killed(server, lambda info: next(many, None) is None)  # noqa: B023
            assert await number_after_restart(server) == acknowledged
