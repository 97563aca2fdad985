"""Servers of two adjoining versions share a Valkey during a rolling upgrade.

`scripts/record_store.py` records the functions and events of a version when it is released.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from distributor.model.command import Reason
from distributor.model.delivery import CompletionOutcome, Progress, Release
from distributor.model.event import CommandChanged, EventBatch, EventKind, merged
from distributor.model.known_states import KnownStates
from distributor.model.lifecycle import CommandStatus
from distributor.store.event_entries import EventEntries
from tests.support.own_logs import own_logs
from tests.support.store_world import AGENT, ENCODED, LEASE, StoreWorld, completion

RECORDED: Final = sorted((Path(__file__).parents[2] / "recorded" / "store").iterdir())
RECORDED_LIBRARY: Final = "0123cafe"
"""So that a recording of the current functions is another library, too."""


def other_version(world: StoreWorld, folder: Path) -> StoreWorld:
    """A replica of a recorded version on the same Valkey."""
    source = (folder / "functions.lua").read_text(encoding="utf-8")
    version = re.search(r"local VERSION = '(\w{8})'", source)
    assert version is not None
    other = world.under()
    other.functions._source = source.replace(version[1], RECORDED_LIBRARY)
    other.functions._version = RECORDED_LIBRARY
    return other


@pytest.fixture(params=RECORDED, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """Each recorded version."""
    recorded: Path = request.param
    return recorded


@pytest.fixture(params=["the older begins", "the newer begins"])
def pair(request: pytest.FixtureRequest, world: StoreWorld, folder: Path) -> tuple[StoreWorld, StoreWorld]:
    """Replicas of the recorded and the current version, in the order in which they take turns."""
    both = (other_version(world, folder), world)
    return both if request.param == "the older begins" else both[::-1]


def test_the_recorded_events_are_read(folder: Path) -> None:
    entries = json.loads((folder / "events.json").read_text(encoding="utf-8"))
    reader, known, kinds = EventEntries(), KnownStates(), set()
    with own_logs() as logs:
        for number, fields in enumerate(entries, start=1):
            batch = reader.batch(b"%d-0" % number, [field.encode() for field in fields])
            assert len(batch.events) == (len(fields) - 2) // 2
            for event in batch.events:
                if isinstance(event, CommandChanged):
                    kinds.add(event.kind)
                    assert known.after(event) is not None, "each follows the one before"
    assert logs == []
    assert kinds == set(EventKind) - {EventKind.OUTPUT, EventKind.AGENT, EventKind.READY}


async def test_a_command_that_they_take_turns_with(pair: tuple[StoreWorld, StoreWorld]) -> None:
    one, other = pair
    await one.attach()
    other.epochs = one.epochs
    command_id = await other.queued(max_runs=2)
    assert [claimed.command_id for claimed in (await one.claim()).commands] == [command_id]
    await other.store.release([Release(command_id, AGENT, LEASE, 0, Reason("busy", "no room"), refused=True)])
    assert [claimed.attempt for claimed in (await one.claim(lease_id="second")).commands] == [2]
    assert await other.store.progress([Progress(command_id, AGENT, "second", 1, 2, 3)]) == [True]
    assert await one.print_output(command_id, 0, b"abc", "second") == 3
    assert await other.print_output(command_id, 3, b"def", "second") == 6
    await one.store.cancel(command_id, "enough")
    ended = completion(command_id, CommandStatus.CANCELLED, lease_id="second", output_bytes=6, reason=Reason("a", "b"))
    assert await other.store.finish([ended]) == [CompletionOutcome.STORED]
    assert await one.store.finish([ended]) == [CompletionOutcome.LATE]
    for world in pair:
        state, details = await world.state(command_id), await world.details(command_id)
        assert (state.status, state.revision, state.attempt) == (CommandStatus.CANCELLED, 7, 2)
        assert (details.encoded, details.output_bytes) == (ENCODED, 6)
        (result,) = await world.reader.results([command_id])
        assert result is not None
        assert (result.output_bytes, result.reason) == (6, Reason("a", "b"))


async def test_what_each_tells_the_other_understands(pair: tuple[StoreWorld, StoreWorld]) -> None:
    one, other = pair
    await one.attach()
    other.epochs = one.epochs
    command_id = await other.queued()
    await one.claim()
    await other.store.cancel(command_id, "enough")
    told = sorted((*one.told, *other.told), key=lambda batch: tuple(map(int, batch.position.split("-"))))
    state = None
    for change in changes_of(told):
        state = merged(state, change)
    assert state == await one.state(command_id)


async def test_each_sweeps_what_the_other_ended(pair: tuple[StoreWorld, StoreWorld]) -> None:
    one, other = pair
    command_id = await one.ended(CommandStatus.COMPLETED)
    await one.set_field(command_id, "finished_ms", 1)
    assert (await other.store.forget(""))[0] == 1
    assert not [name for name in await one.dump() if command_id in name]


def changes_of(batches: list[EventBatch]) -> list[CommandChanged]:
    """The changes of commands in these batches, in order."""
    return [event for batch in batches for event in batch.events if isinstance(event, CommandChanged)]
