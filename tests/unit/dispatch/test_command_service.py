"""What the integration tests of queueing cannot bring about: a store that goes away half-way through a call."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from distributor.dispatch.command_service import MAX_COMMANDS_PER_STEP, CommandService
from distributor.errors import Unavailable
from distributor.identity.caller import ANYONE
from distributor.model.queueing import Enqueued, NewCommand
from distributor.store.exchanges import MAX_ITEMS_PER_CALL
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import MemoryClaimer, MemoryStore

NEW = [NewCommand(f"c{number}", "agent123", "PING", b"") for number in range(1_000)]


class LeavingStore(MemoryStore):
    """Goes away after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls_left = calls

    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued]:
        self.away = self.calls_left == 0
        self.calls_left -= 1
        return await super().enqueue(commands)


def service(store: MemoryStore) -> CommandService:
    return CommandService(store, MemoryReader(), MemoryClaimer())


async def test_each_command_is_answered_when_the_store_goes_away_half_way() -> None:
    store = LeavingStore(calls=2)
    answers = await service(store).queue_many(ANYONE, NEW)
    stored = [answer for answer in answers if isinstance(answer, Enqueued)]
    assert [answer.command_id for answer in stored] == [item.command_id for item in store.waiting["agent123"]]
    assert len(stored) == 2 * MAX_COMMANDS_PER_STEP
    assert [type(answer) for answer in answers[len(stored) :]] == [Unavailable] * (1_000 - len(stored))
    assert store.failures == 1, "it is not asked again"


async def test_a_call_of_which_nothing_was_stored_fails_as_a_whole() -> None:
    with pytest.raises(Unavailable):
        await service(LeavingStore(calls=0)).queue_many(ANYONE, NEW)


def test_what_is_sent_together_is_stored_in_one_step() -> None:
    assert MAX_COMMANDS_PER_STEP <= MAX_ITEMS_PER_CALL
