"""What the integration tests of retries cannot bring about: many commands, and a store that goes away half-way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from distributor.dispatch.command_service import CommandService
from distributor.dispatch.retrying import READ_AT_ONCE, Origin, Repeated, Retrying, RetryRequest
from distributor.errors import Unavailable
from distributor.identity.caller import ANYONE
from distributor.model.command import CommandState, Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandFilter, Page
from distributor.model.queueing import Enqueued, NewCommand
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import NOBODY, MemoryClaimer, MemoryStore

FAILED = CommandFilter(statuses=[CommandStatus.FAILED])


class FailedCommands(MemoryReader):
    """Holds failed commands, newest first, in pages that end early and may be empty."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.ids = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(count)]

        self.known = {
            command_id: CommandState(command_id, "agent123", "PRINT", 50, CommandStatus.FAILED, 1, Receipts())
            for command_id in self.ids
        }

    async def details(self, command_id: str) -> CommandDetails | None:
        return CommandDetails(self.known[command_id], command_id.encode(), 0, NOBODY)

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        start = int(cursor or 0)
        states = [self.known[command_id] for command_id in self.ids[start : start + min(size, start)]]
        after = start + len(states) or 1
        return Page(states, str(after) if after < len(self.ids) else "")


class LeavingStore(MemoryStore):
    """Goes away after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls_left = calls

    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued]:
        self.away = self.calls_left == 0
        self.calls_left -= 1
        return await super().enqueue(commands)


def repeated(origin: Origin) -> Repeated:
    return Repeated(NewCommand(origin.new_id, "agent123", "PRINT", origin.encoded), "")


def use_case(store: MemoryStore, reader: MemoryReader) -> Retrying:
    return Retrying(CommandService(store, reader, MemoryClaimer()), reader, repeated)


async def test_many_are_queued_oldest_first_and_answered_newest_first() -> None:
    store, reader = MemoryStore(), FailedCommands(1_100)
    answer = await use_case(store, reader).retry(ANYONE, RetryRequest(where=FAILED))
    assert (answer.matched, answer.more) == (1_000, True)
    ids = [one.command_id for one in answer.commands]
    assert ids == reader.ids[1:1_001], "the first page is empty, and skips one"
    assert [item.encoded.decode() for item in store.waiting["agent123"]] == ids[::-1]
    assert [one.outcome for one in answer.commands] == [item.command_id for item in store.waiting["agent123"]][::-1]


async def test_each_command_is_answered_when_the_store_goes_away_half_way() -> None:
    store, reader = LeavingStore(calls=2), FailedCommands(200)
    answer = await use_case(store, reader).retry(ANYONE, RetryRequest(command_ids=reader.ids))
    queued = [one.command_id for one in answer.commands if isinstance(one.outcome, str)]
    assert queued == reader.ids[: 2 * READ_AT_ONCE]
    assert [type(one.outcome) for one in answer.commands[len(queued) :]] == [Unavailable] * (200 - len(queued))
    assert store.failures == 1, "it is not asked again"


async def test_a_retry_of_which_nothing_was_stored_fails_as_a_whole() -> None:
    with pytest.raises(Unavailable):
        await use_case(LeavingStore(calls=0), FailedCommands(2)).retry(ANYONE, RetryRequest(where=FAILED))
