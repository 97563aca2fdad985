"""Many viewers of one command, over a log in memory: who is told what, and how often it is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.output_pump import OutputPumps
from distributor.errors import Unavailable
from distributor.model.command import CommandState, Receipts
from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream
from distributor.model.lifecycle import CommandStatus
from tests.support.dashboard_credentials import credential
from tests.support.own_logs import own_logs
from tests.support.waiting import PATIENCE_SECONDS, until

ENDED = Change("", CommandState("c", "a", "T", 50, CommandStatus.COMPLETED, 1, Receipts()), "ended", "result")


class Log:
    """The OutputLog port on a list."""

    def __init__(self) -> None:
        self.chunks: list[OutputChunk] = []
        self.reads: list[int] = []
        self.failures = 0

    def write(self, data: bytes) -> None:
        end = self.chunks[-1].offset + len(self.chunks[-1].data) if self.chunks else 0
        self.chunks.append(OutputChunk(OutputStream.STDOUT, end, data, 0))

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        raise AssertionError("a pump only reads")

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        self.reads.append(offset)
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        found = [chunk for chunk in self.chunks if chunk.offset + len(chunk.data) > offset]
        return [
            chunk._replace(offset=max(offset, chunk.offset), data=chunk.data[max(0, offset - chunk.offset) :])
            for chunk in found[:4]
        ]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def pumps(log: Log) -> AsyncIterator[OutputPumps]:
    pumps = OutputPumps(log, retry_seconds=0.001)
    yield pumps
    await pumps.stop()


def viewer(pumps: OutputPumps, messages: int = 256) -> Dashboard:
    dashboard = Dashboard("d", credential(), DashboardOutbox(messages))
    dashboard.on_room = lambda: pumps.resume(dashboard)
    return dashboard


async def heard(dashboard: Dashboard, until: str) -> list[str]:
    """What it is told up to and with a text, output as its bytes."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not found or found[-1] != until:
            entry = await dashboard.next_entry()
            text = dashboard.text_of(entry)
            covers = f"{entry.begin}-{entry.end}"
            found.append(f"gap {covers}" if entry.gap else covers if entry.command_id else text)
    return found


async def test_viewers_at_one_place_share_their_reads(log: Log, pumps: OutputPumps) -> None:
    for _ in range(3):
        log.write(b"0123456789")
    viewers = [viewer(pumps) for _ in range(50)]
    for dashboard in viewers:
        pumps.follow(dashboard, "c", 0)
        pumps.end(dashboard, "c", ENDED)
    for dashboard in viewers:
        assert await heard(dashboard, "result") == ["0-10", "10-20", "20-30", "ended", "result"]
    assert log.reads == [0, 30]


async def test_a_late_viewer_catches_up_and_joins_the_others(log: Log, pumps: OutputPumps) -> None:
    first, second = viewer(pumps), viewer(pumps)
    log.write(b"0123456789")
    pumps.follow(first, "c", 0)
    assert await heard(first, "0-10") == ["0-10"]
    pumps.follow(second, "c", 4)
    assert await heard(second, "4-10") == ["4-10"]
    log.write(b"abc")
    log.reads.clear()
    pumps.notify("c")
    assert await heard(first, "10-13") == ["10-13"]
    assert await heard(second, "10-13") == ["10-13"]
    assert log.reads[0] == 10
    assert log.reads.count(10) == 1


async def test_a_viewer_without_room_waits_and_delays_nobody(log: Log, pumps: OutputPumps) -> None:
    slow, quick = viewer(pumps, messages=16), viewer(pumps)
    for _ in range(40):
        log.write(b"0123456789")
    for dashboard in (slow, quick):
        pumps.follow(dashboard, "c", 0)
        pumps.end(dashboard, "c", ENDED)
    everything = [f"{10 * n}-{10 * n + 10}" for n in range(40)]
    assert await heard(quick, "result") == [*everything, "ended", "result"]
    assert len(slow.outbox) == 12
    assert slow.full_since is not None
    log.reads.clear()
    pumps.notify("c")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not log.reads, "nothing is read for who has no room"
    assert await heard(slow, "result") == [*everything, "ended", "result"]


async def test_what_is_gone_is_a_gap(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    for _ in range(3):
        log.write(b"0123456789")
    del log.chunks[:2]
    pumps.follow(dashboard, "c", 3)
    pumps.end(dashboard, "c", ENDED)
    assert await heard(dashboard, "result") == ["gap 3-20", "20-30", "ended", "result"]


@pytest.mark.parametrize("offset", [0, 10, 14])
async def test_an_end_that_could_not_be_kept_is_a_gap(log: Log, pumps: OutputPumps, offset: int) -> None:
    dashboard = viewer(pumps)
    log.write(b"0123456789")
    pumps.follow(dashboard, "c", offset)
    pumps.end(dashboard, "c", ENDED._replace(output_bytes=14))
    told = {0: ["0-10", "gap 10-14"], 10: ["gap 10-14"], 14: []}[offset]
    assert await heard(dashboard, "result") == [*told, "ended", "result"]


async def test_a_gap_at_the_end_waits_for_room_too(log: Log, pumps: OutputPumps) -> None:
    slow = viewer(pumps, messages=16)
    for _ in range(12):
        log.write(b"0123456789")
    pumps.follow(slow, "c", 0)
    await until(lambda: len(slow.outbox) == 12)
    pumps.end(slow, "c", ENDED._replace(output_bytes=125))
    everything = [f"{10 * n}-{10 * n + 10}" for n in range(12)]
    assert await heard(slow, "result") == [*everything, "gap 120-125", "ended", "result"]


async def test_an_ending_that_comes_first_waits_for_the_output(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    pumps.follow(dashboard, "c", 0)
    assert pumps.end(dashboard, "c", ENDED)
    log.write(b"0123456789")
    assert await heard(dashboard, "result") == ["0-10", "ended", "result"]
    assert not pumps.follows(dashboard, "c")
    assert not pumps.end(dashboard, "c", ENDED)


async def test_who_follows_no_more_is_told_the_ending_at_once(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    log.write(b"0123456789")
    pumps.follow(dashboard, "c", 0)
    pumps.end(dashboard, "c", ENDED)
    pumps.unfollow(dashboard, "c")
    assert await heard(dashboard, "result") == ["ended", "result"]


async def test_a_store_that_is_away_is_asked_again(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    log.write(b"0123456789")
    log.failures = 3
    pumps.follow(dashboard, "c", 0)
    assert await heard(dashboard, "0-10") == ["0-10"]


async def test_a_store_that_is_away_is_told_of_once_for_all_commands(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    log.write(b"0123456789")
    log.failures = 6
    with own_logs() as logs:
        pumps.follow(dashboard, "c", 0)
        pumps.follow(dashboard, "d", 0)
        await until(lambda: len(dashboard.outbox) == 2)
    assert [line["event"] for line in logs] == ["cannot read output", "can read output again"]


async def test_a_pump_ends_with_its_last_viewer(log: Log, pumps: OutputPumps) -> None:
    for leave in (pumps.drop, lambda dashboard: pumps.unfollow(dashboard, "c")):
        dashboard = viewer(pumps)
        pumps.follow(dashboard, "c", 0)
        leave(dashboard)
        pumps.follow(dashboard, "c", 0)
        assert pumps.follows(dashboard, "c")
        pumps.drop(dashboard)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*pumps._tasks)
        assert not pumps._pumps


async def test_who_starts_again_with_a_crowded_queue_is_served(log: Log, pumps: OutputPumps) -> None:
    """What was queued is taken back, so nothing is sent that would tell of room."""
    dashboard = viewer(pumps, messages=16)
    for _ in range(40):
        log.write(b"0123456789")
    pumps.follow(dashboard, "c", 0)
    assert (await heard(dashboard, "20-30"))[-1] == "20-30"
    await until(lambda: dashboard.full_since is not None)
    pumps.follow(dashboard, "c", 390)
    pumps.end(dashboard, "c", ENDED)
    assert await heard(dashboard, "result") == ["390-400", "ended", "result"]


async def test_who_leaves_a_command_has_room_for_another(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps, messages=16)
    for _ in range(40):
        log.write(b"0123456789")
    pumps.follow(dashboard, "c", 0)
    await until(lambda: dashboard.full_since is not None)
    pumps.follow(dashboard, "d", 390)
    pumps.unfollow(dashboard, "c")
    assert await heard(dashboard, "390-400") == ["390-400"]


async def test_numbers_follow_one_another_to_the_end(log: Log, pumps: OutputPumps) -> None:
    dashboard = viewer(pumps)
    for _ in range(8):
        log.write(b"0123456789")
    pumps.follow(dashboard, "c", 0)
    texts = [dashboard.text_of(await dashboard.next_entry()) for _ in range(2)]
    pumps.end(dashboard, "c", ENDED)
    while texts[-1] != "result":
        texts.append(dashboard.text_of(await dashboard.next_entry()))
    assert [json.loads(text)["sequence"] for text in texts[:-2]] == list(range(8))


class DeafLog(Log):
    """Loses the first cancel of whoever reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        self.reading.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return []


async def test_a_reader_that_loses_its_cancel_is_stopped() -> None:
    log = DeafLog()
    pumps = OutputPumps(log, retry_seconds=0.001)
    pumps.follow(viewer(pumps), "c", 0)
    await log.reading.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await pumps.stop()
