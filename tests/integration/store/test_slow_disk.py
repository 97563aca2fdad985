"""What a killed Valkey has lost while its disk was slow, and what a loss of power leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bench.slow_disk import SlowDisk
from distributor.errors import Unavailable
from distributor.model.agent import Renewal
from distributor.model.delivery import NOT_DELIVERED, CompletionOutcome, Release
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import QueueOutcome
from distributor.store.durability import Durability
from distributor.store.embedded import EmbeddedValkey
from distributor.store.event_log import ValkeyEventLog
from distributor.store.server_binary import find_server_binary
from tests.support.durable_store import DurableWorld, durable_world, missing_from
from tests.support.external_valkey import ExternalValkey
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.store_world import AGENT, LEASE, completion
from tests.support.waiting import eventually, until

SLOW_MS = 1_500
"""How long an fsync takes on the slow disk."""
A_MOMENT_MS = 30
"""How long it takes on one that is slower than the calls, but lets many of them end."""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """The disk of every Valkey that the test starts."""
    disk = SlowDisk(tmp_path / "disk")
    monkeypatch.setenv("PATH", str(disk.server_on_path(find_server_binary().path)), prepend=":")
    return disk


class OurDisk:
    """The disk on which this process fsyncs for the embedded Valkey: slow, and it knows what is on it."""

    def __init__(self, server: EmbeddedValkey, delay_ms: int) -> None:
        self.delay_ms = delay_ms
        self.synced: dict[str, int] = {}
        server.cadence._files._fdatasync = self._fdatasync

    def _fdatasync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        time.sleep(self.delay_ms / 1000)
        os.fdatasync(descriptor)
        self.synced[Path(os.readlink(f"/proc/self/fd/{descriptor}")).name] = size


def holds_back(bytes_: int) -> Callable[[ExternalValkey], Awaitable[bool]]:
    """Whether Valkey has executed more bytes of changes than this, and waits for an fsync before it writes them."""

    async def check(valkey: ExternalValkey) -> bool:
        info = await valkey.info("persistence")
        return info["aof_pending_bio_fsync"] != "0" and int(info["aof_buffer_length"]) > bytes_

    return check


async def kill_under_load(valkey: ExternalValkey, world: DurableWorld, when: Callable[[], Awaitable[bool]]) -> None:
    """Queue commands, kill Valkey as soon as `when`, and start it again."""
    load = asyncio.ensure_future(world.keep_queueing())
    await eventually(when)
    await valkey.kill()
    await load
    await valkey.start()


# kill -9


async def test_everysec_loses_what_it_has_answered_while_an_fsync_is_slow(tmp_path: Path, disk: SlowDisk) -> None:
    async with ExternalValkey(tmp_path / "data", appendfsync="everysec") as valkey:
        async with durable_world(valkey.url, "process") as world:
            plain = DurableWorld(world.connections, Durability())
            await plain.queued()
            disk.set(SLOW_MS)
            await kill_under_load(valkey, plain, lambda: holds_back(20_000)(valkey))
        assert await missing_from(valkey.url, plain)


@pytest.mark.parametrize("appendfsync", ["everysec", "no", "always"])
async def test_with_process_killing_valkey_loses_nothing(tmp_path: Path, disk: SlowDisk, appendfsync: str) -> None:
    async with ExternalValkey(tmp_path / "data", appendfsync=appendfsync) as valkey:
        for _ in range(2):
            async with durable_world(valkey.url, "process") as world:
                assert bool(world.durability.proof) == (appendfsync == "everysec")
                await world.queued()
                disk.set(A_MOMENT_MS if appendfsync == "always" else SLOW_MS)

                async def soon(world: DurableWorld = world) -> bool:
                    return len(world.kept) > 50 and (appendfsync != "everysec" or await holds_back(2_000)(valkey))

                await kill_under_load(valkey, world, soon)
                assert len(world.kept) > 50
                assert len(world.failures) == 4
            assert not await missing_from(valkey.url, world)
            disk.set()


async def test_a_setting_that_is_changed_later_is_noticed(tmp_path: Path, disk: SlowDisk) -> None:
    async with ExternalValkey(tmp_path / "data", appendfsync="always") as valkey:
        async with durable_world(valkey.url, "process") as world:
            await world.functions.check_writable()
            assert not world.durability.proof
            await valkey.set("appendfsync", "everysec")
            with own_logs() as logs:
                # As the server does every second.
                for _ in range(2):
                    await world.functions.check_writable()
            await world.queued()
            disk.set(SLOW_MS)
            await kill_under_load(valkey, world, lambda: holds_back(2_000)(valkey))
        assert not await missing_from(valkey.url, world)
    assert [(line["event"], "appendfsync everysec" in line["settings"]) for line in logs] == [
        ("settings of Valkey on which durability depends were changed", True)
    ]


async def test_killing_the_embedded_valkey_loses_nothing(tmp_path: Path, disk: SlowDisk) -> None:
    async with EmbeddedValkey(tmp_path / "data") as server:
        OurDisk(server, SLOW_MS)
        disk.set(SLOW_MS)
        for _ in range(3):
            async with durable_world(server.url, "process", server) as world:
                load = asyncio.ensure_future(world.keep_queueing())
                await until(lambda world=world: len(world.kept) > 300)  # type: ignore[misc]
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await server.ended()
                await load
                await server.restart()
            assert not await missing_from(server.url, world)


# Loss of power


async def test_with_disk_a_power_loss_loses_nothing(tmp_path: Path, disk: SlowDisk) -> None:
    async with (
        ExternalValkey(tmp_path / "data", appendfsync="always") as valkey,
        durable_world(valkey.url, "disk") as world,
    ):
        disk.set(A_MOMENT_MS)
        async with background(world.keep_queueing()):
            for number in range(3):
                await until(lambda: len(world.kept) > 20 * (number + 1))  # noqa: B023
                acknowledged = set(world.kept)
                disk.after_power_loss(valkey.folder, tmp_path / f"after{number}")
                await _check_after_power_loss(tmp_path / f"after{number}", world, acknowledged)


async def test_with_disk_a_power_loss_under_the_embedded_valkey_loses_nothing(tmp_path: Path, disk: SlowDisk) -> None:
    async with (
        EmbeddedValkey(tmp_path / "data") as server,
        durable_world(server.url, "disk", server) as world,
    ):
        ours = OurDisk(server, A_MOMENT_MS)
        async with background(world.keep_queueing()):
            for number in range(3):
                if number == 1:
                    await world.connection.call("BGREWRITEAOF")
                await until(lambda: len(world.kept) > 40 * (number + 1))  # noqa: B023
                acknowledged, synced = set(world.kept), dict(ours.synced)
                target = tmp_path / f"after{number}"
                disk.after_power_loss(tmp_path / "data", target, synced)
                await _check_after_power_loss(target, world, acknowledged)


async def test_with_process_a_power_loss_loses_something(tmp_path: Path, disk: SlowDisk) -> None:
    """The check above would notice."""
    async with EmbeddedValkey(tmp_path / "data") as server, durable_world(server.url, "process", server) as world:
        ours = OurDisk(server, SLOW_MS)
        async with background(world.keep_queueing()):
            await until(lambda: len(world.kept) > 50)
            acknowledged = set(world.kept)
            disk.after_power_loss(tmp_path / "data", tmp_path / "after", ours.synced)
            with pytest.raises(AssertionError):
                await _check_after_power_loss(tmp_path / "after", world, acknowledged)


async def _check_after_power_loss(folder: Path, world: DurableWorld, acknowledged: set[str]) -> None:
    async with ExternalValkey(folder, appendfsync="no") as survivor:
        connections = DurableWorld(world.connections, Durability())
        connections.kept = acknowledged
        assert not await missing_from(survivor.url, connections)


async def test_nothing_is_acknowledged_announced_or_read_before_its_fsync(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server, durable_world(server.url, "disk", server) as world:
        await world.attach()
        ours = OurDisk(server, 0)
        held = asyncio.Event()
        loop = asyncio.get_running_loop()
        began = asyncio.Event()
        sync = ours._fdatasync

        def hold(descriptor: int) -> None:
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(held.wait(), loop).result()
            sync(descriptor)

        server.cadence._files._fdatasync = hold
        new = world.new(idempotency_key="k", digest="d")
        again = world.new(idempotency_key="k", digest="d")
        position = await world.position()
        world.told.clear()
        calls = [asyncio.ensure_future(world.store.enqueue([one])) for one in (new, again)]
        await began.wait()
        hit = asyncio.ensure_future(world.store.enqueue([again]))
        claim = asyncio.ensure_future(world.claim())
        async with background(_first_event(world, position)) as event:
            # It is in Valkey, and a heartbeat is answered.
            await eventually(lambda: _is_assigned(world, new.command_id))
            assert await world.sessions.heartbeat([Renewal("agent123", world.epochs["agent123"])]) == [True]
            assert not any(one.done() for one in (*calls, hit, claim, event))
            assert not world.told
            held.set()
            outcomes = [answer.outcome for (answer,) in await asyncio.gather(*calls, hit)]
            assert outcomes == [QueueOutcome.QUEUED, QueueOutcome.ALREADY_QUEUED, QueueOutcome.ALREADY_QUEUED]
            assert [command.command_id for command in (await claim).commands] == [new.command_id]
            await event


async def _is_assigned(world: DurableWorld, command_id: str) -> bool:
    (state,) = await world.reader.states([command_id])
    return state is not None and state.status is CommandStatus.ASSIGNED


async def _first_event(world: DurableWorld, position: str) -> None:
    log = ValkeyEventLog(world.connections.events, world.connections.reads, world.durability, "another replica")
    async for _ in log.tail(position):
        return


# What cannot be made durable


async def test_a_disk_that_is_full_or_broken_acknowledges_nothing(tmp_path: Path, disk: SlowDisk) -> None:
    async with EmbeddedValkey(tmp_path / "data") as server, durable_world(server.url, "disk", server) as world:
        ours = OurDisk(server, 0)
        await world.queued()
        disk.set(full=True)
        with pytest.raises(Unavailable, match="may or may not survive.*cannot write to its append-only file"):
            await world.queued()
        disk.set()
        await eventually(lambda: _queues(world))

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        server.cadence._files._fdatasync = fail
        with pytest.raises(Unavailable, match="may or may not survive.*Input/output error"):
            await world.queued()
        server.cadence._files._fdatasync = ours._fdatasync
        # A rewrite puts all of it into new files.
        await eventually(lambda: _queues(world))


async def _queues(world: DurableWorld) -> bool:
    try:
        return bool(await world.queued())
    except Unavailable:
        return False


@pytest.mark.parametrize(
    ("appendfsync", "wanted", "setting", "value", "shown"),
    [
        ("always", "disk", "appendonly", "no", "appendonly of Valkey is no now, not yes"),
        ("always", "disk", "appendfsync", "everysec", "appendfsync of Valkey is everysec now, not always"),
        (
            "always",
            "disk",
            "no-appendfsync-on-rewrite",
            "yes",
            "no-appendfsync-on-rewrite of Valkey is yes now",
        ),
        ("everysec", "process", "appendonly", "no", "appendonly of Valkey is no"),
    ],
)
async def test_what_is_changed_while_it_runs_is_noticed(
    tmp_path: Path, appendfsync: str, wanted: str, setting: str, value: str, shown: str
) -> None:
    async with (
        ExternalValkey(tmp_path / "data", appendfsync=appendfsync) as valkey,
        durable_world(valkey.url, wanted) as world,
    ):
        await world.queued()
        await valkey.set(setting, value)
        with pytest.raises(Unavailable, match=f"may or may not survive.*{shown}") as caught:
            await world.queued()
        assert caught.value.reason == "NOT_DURABLE"
        await valkey.set(setting, {"no": "yes", "yes": "no"}.get(value, "always"))
        await eventually(lambda: _queues(world))


async def test_the_embedded_valkey_without_its_file_acknowledges_nothing(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server, durable_world(server.url, "disk", server) as world:
        await world.connection.call("CONFIG", "SET", "appendonly", "no")
        with pytest.raises(Unavailable, match="appendonly of Valkey is no"):
            await world.queued()


async def test_a_claim_that_may_be_lost_is_released_and_a_result_is_taken_when_it_is_resent(tmp_path: Path) -> None:
    async with (
        ExternalValkey(tmp_path / "data", appendfsync="always") as valkey,
        durable_world(valkey.url, "disk") as world,
    ):
        running = await world.acknowledged()
        waiting = await world.queued()
        await valkey.set("appendfsync", "everysec")
        with pytest.raises(Unavailable, match="may or may not survive"):
            await world.claim()
        with pytest.raises(Unavailable, match="may or may not survive"):
            await world.store.finish([completion(running)])
        await world.exchanges.idle()
        released = await world.state(waiting)
        assert (released.status, released.reason.code) == (CommandStatus.QUEUED, "not_delivered")
        await valkey.set("appendfsync", "always")
        (outcome,) = await world.store.finish([completion(running)])
        assert outcome in (CompletionOutcome.STORED, CompletionOutcome.LATE)
        assert (await world.state(running)).status is CommandStatus.COMPLETED
        await world.end_delay(waiting)
        await world.store.due([0])
        claim = await world.claim()
        assert [command.command_id for command in claim.commands] == [waiting]


async def test_a_failed_release_of_what_was_never_sent_is_repeated_once_valkey_is_back(tmp_path: Path) -> None:
    async with (
        ExternalValkey(tmp_path / "data", appendfsync="no") as valkey,
        durable_world(valkey.url, "process") as world,
    ):
        waiting, cancelled = await world.assigned(), await world.assigned(lease_id="another")
        await valkey.kill()
        releases = [
            Release(command_id, AGENT, lease_id, 0, NOT_DELIVERED, counts=False, unsent=True)
            for command_id, lease_id in ((waiting, LEASE), (cancelled, "another"))
        ]
        with pytest.raises(Unavailable):
            await world.store.release(releases)
        await valkey.start()

        async def claimed() -> bool:
            with contextlib.suppress(Unavailable):
                # Each connection may fail once.
                assert (await world.state(waiting)).status is CommandStatus.ASSIGNED
                await world.store.cancel(cancelled, "test")
                return not (await world.claim()).commands
            return False

        await eventually(claimed)
        await world.exchanges.idle()
        assert (await world.state(waiting)).status is CommandStatus.QUEUED
        assert (await world.state(cancelled)).status is CommandStatus.CANCELLED
