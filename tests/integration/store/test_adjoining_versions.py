"""Servers of two adjoining versions share a Valkey during a rolling upgrade.

The older server is played from its recording, which `scripts/record_store.py` makes. Both share the steps of one
scenario, in many ways. Each must receive the replies that it receives alone, and both must be able to read all events.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from valkey.asyncio import Valkey

from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, EventBatch, merged
from distributor.store.connections import StoreConnections
from distributor.store.event_entries import EventEntries
from tests.support.own_logs import own_logs
from tests.support.recorded_event_reader import RecordedEventReader, Unreadable
from tests.support.recorded_server import RecordedServer
from tests.support.store_recording import FOLDER, Recording, same_each_run, understood
from tests.support.store_scenario import COMMANDS, POLICY, STEPS
from tests.support.store_world import StoreWorld

RECORDED: Final = sorted(FOLDER.iterdir())
ASSIGNED: Final[dict[str, Any]] = {
    "event": "assigned",
    "revision": 2,
    "agent_id": "press-7",
    "status": "assigned",
    "attempt": 1,
    "assigned_ms": 18,
}
QUEUED: Final[dict[str, Any]] = {
    **ASSIGNED,
    "event": "queued",
    "revision": 1,
    "status": "queued",
    "type": "PRINT",
    "priority": 50,
    "queued_ms": 17,
}


@pytest.fixture(scope="module", params=RECORDED, ids=lambda folder: folder.name)
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each recorded version."""
    folder: Path = request.param
    return Recording.read(folder)


@pytest.fixture(scope="module")
async def alone(shared_valkey_url: str, recording: Recording) -> dict[str, str]:
    """What a server of today understands in each step if there is no other."""
    connections = StoreConnections.to(shared_valkey_url)
    try:
        await connections.reads.call("FLUSHALL")
        world, answers = StoreWorld(connections, POLICY), {}
        for step in recording.steps:
            answers[step] = await done_today(world, step)
            await world.next_millisecond()
        return answers
    finally:
        await connections.close()


@pytest.fixture
async def pair(valkey_url: str, recording: Recording, alone: dict[str, str]) -> AsyncIterator[Pair]:
    """A recorded server and one of today on an empty Valkey."""
    connections = StoreConnections.to(valkey_url)
    try:
        async with Valkey.from_url(valkey_url) as client:
            yield Pair(RecordedServer(recording, client), StoreWorld(connections, POLICY), alone)
    finally:
        await connections.close()


async def done_today(world: StoreWorld, step: str) -> str:
    """What a server of today understands from the replies in a step."""
    return same_each_run(repr(await STEPS[step](world)))


class Pair:
    """Two servers that share the steps of the scenario, and an event reader of each version."""

    def __init__(self, old: RecordedServer, today: StoreWorld, alone: dict[str, str]) -> None:
        self.old, self.today = old, today
        self.steps: Final = list(old.recording.steps)
        self._alone = alone
        self._old_reader = RecordedEventReader(old.recording.reader)
        self._today_reader = TodaysReader()
        self._position = "-"

    async def share(self, by_the_old: Sequence[str]) -> None:
        """Go through the scenario; the recorded server does these steps."""
        await self.old.load()
        for step in self.steps:
            if step in by_the_old:
                replies, expected = await self.old.play(step), self.old.expected(step)
                assert understood(expected, replies), f"the older server, {step}: {replies}, not {expected}"
            else:
                assert await done_today(self.today, step) == self._alone[step], f"the server of today, {step}"
            if await self._read_events():
                await self._compare_states(step)
            await self.today.next_millisecond()

    async def _read_events(self) -> bool:
        """Let both readers read new events. Compare those of today's server with its replies. Return if any came."""
        entries = await self.old.send(["XRANGE", self.old.recording.reader["stream"], self._position, "+"])
        batches: dict[str, list[str]] = {}
        for entry_id, fields in entries:
            self._position = f"({entry_id.decode()}"
            self._old_reader.read(fields)
            batch = self._today_reader.read(entry_id, fields)
            batches[batch.position] = sorted(map(repr, batch.events))
        for batch in self.today.told:
            # The order of commands in a batch has no meaning.
            assert batches[batch.position] == sorted(map(repr, batch.events))
        self.today.told.clear()
        return bool(entries)

    async def _compare_states(self, step: str) -> None:
        """Compare the states that both readers built from events with those that servers of their versions read."""
        for command_id, state in zip(COMMANDS, await self.today.reader.states(COMMANDS), strict=True):
            row = await self.old.row(command_id)
            assert self._today_reader.states.get(command_id) == state, f"the reader of today, {step}"
            assert self._old_reader.states.get(command_id, {}) == row, f"the older reader, {step}"


class TodaysReader:
    """Follows all commands of an event stream from its beginning, as today's code does."""

    def __init__(self) -> None:
        self._entries = EventEntries()
        self.states: dict[str, CommandState] = {}

    def read(self, entry_id: bytes, fields: Sequence[bytes]) -> EventBatch:
        """Read an entry. None of its events may be unreadable or leave a gap."""
        with own_logs() as logs:
            batch = self._entries.batch(entry_id, fields)
            assert len(batch.events) == (len(fields) - 2) // 2
        assert logs == []
        for event in batch.events:
            if isinstance(event, CommandChanged):
                state = merged(self.states.get(event.command_id), event)
                assert state is not None, "each follows the one before"
                self.states[event.command_id] = state
        return batch


def test_the_recorded_events_are_read(recording: Recording) -> None:
    reader = TodaysReader()
    for number, fields in enumerate(recording.entries, start=1):
        batch = reader.read(b"%d-0" % number, [field.encode() for field in fields])
        assert (batch.origin, len(batch.events)) == (fields[1], len(fields) // 2 - 1)
    assert reader.states.keys() == set(COMMANDS)
    assert all(state.status.terminal for state in reader.states.values())


def older_reader(recording: Recording, *events: dict[str, Any]) -> RecordedEventReader:
    """A reader of the recorded version that has read a queued command and then these events about it."""
    reader = RecordedEventReader(recording.reader)
    for event in (QUEUED, *events):
        reader.read([b"origin", b"r", b"c1", json.dumps(event).encode()])
    return reader


@pytest.mark.parametrize(
    "event",
    [
        {**ASSIGNED, "event": "paused"},
        {**ASSIGNED, "status": "paused"},
        {**ASSIGNED, "paused_ms": "later"},
    ],
    ids=["kind", "status", "member"],
)
def test_an_older_reader_ignores_what_it_does_not_know(recording: Recording, event: dict[str, Any]) -> None:
    assert "paused_ms" not in older_reader(recording, event).states["c1"]


@pytest.mark.parametrize(
    "event",
    [
        *({name: value for name, value in ASSIGNED.items() if name != lacking} for lacking in ("revision", "status")),
        {**ASSIGNED, "revision": "2"},
        {**ASSIGNED, "revision": 3},
        {**ASSIGNED, "assigned_ms": 1.5},
    ],
    ids=lambda event: json.dumps(event)[20:],
)
def test_an_older_reader_cannot_do_without_what_it_needs(recording: Recording, event: dict[str, Any]) -> None:
    older_reader(recording, ASSIGNED)
    with pytest.raises(Unreadable):
        older_reader(recording, event)


async def test_the_recorded_server_does_all(pair: Pair) -> None:
    await pair.share(pair.steps)


@pytest.mark.parametrize("digit", [0, 1])
@pytest.mark.parametrize("bit", range(len(STEPS).bit_length()))
async def test_they_share_the_steps(pair: Pair, bit: int, digit: int) -> None:
    """Distribute steps by a binary digit of their number: any two are done by different servers in some of the runs."""
    await pair.share([step for place, step in enumerate(pair.steps) if place >> bit & 1 == digit])


@pytest.mark.parametrize("place", range(4, len(STEPS), 8))
async def test_the_newer_takes_over(pair: Pair, place: int) -> None:
    await pair.share(pair.steps[:place])


@pytest.mark.parametrize("place", range(4, len(STEPS), 8))
async def test_the_older_takes_over(pair: Pair, place: int) -> None:
    """As when an upgrade is rolled back."""
    await pair.share(pair.steps[place:])
