"""A store in memory whose answers, events and losses come in the order that a test decides.

Every read waits once before it looks and once after, so anything may happen before the reader has its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from distributor.model.agent import AgentInfo
from distributor.model.command import CommandResult, CommandState
from distributor.model.delivery import OutputChunk
from distributor.model.event import CommandChanged, EventBatch, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter, Page
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import MemoryOutputLog, changed, state

SETTLE_TURNS: Final = 40
"""Turns of the loop after which nothing more happens until the test acts."""
NEXT: Final = {
    CommandStatus.QUEUED: (CommandStatus.ASSIGNED, CommandStatus.CANCELLED),
    CommandStatus.ASSIGNED: (
        CommandStatus.ASSIGNED,
        CommandStatus.QUEUED,
        CommandStatus.COMPLETED,
        CommandStatus.TIMEOUT,
    ),
}


async def settle() -> None:
    """Let all tasks go on until they wait for the test."""
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


class Gates:
    """The reads that wait for the test."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        await gate

    def open(self, choice: int) -> None:
        """Let one of them go on."""
        self.waiting = [gate for gate in self.waiting if not gate.done()]
        if self.waiting:
            self.waiting.pop(choice % len(self.waiting)).set_result(None)


def event_of(after: CommandState) -> CommandChanged:
    """The event of a change: whole at the beginning and the end, otherwise only what changed."""
    if after.revision == 1 or after.status.terminal:
        return changed(EventKind.QUEUED if after.revision == 1 else EventKind.FINISHED, after)
    return changed(EventKind.STARTED, after)._replace(whole=None)


class InterleavedStore(MemoryReader):
    """Commands, their history as events, and one agent that may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = Gates()
        self.events: list[EventBatch] = []
        self.away_since_ms = 0

    def change(self, command_id: str, choice: int) -> None:
        """Queue a command, or make one of the changes that may follow; nothing follows an ending."""
        before = self.known.get(command_id)
        if before is None:
            after = state(command_id, CommandStatus.QUEUED, attempt=0, revision=1)
        elif before.status.terminal:
            return
        else:
            choices = NEXT[before.status]
            status = choices[choice % len(choices)]
            after = before._replace(status=status, revision=before.revision + 1)
        self.known[command_id] = after
        self.events.append(EventBatch(self.position_of(len(self.events)), "r", [event_of(after)]))

    @staticmethod
    def position_of(place: int) -> str:
        """The position of the event at a place; they are long past, as are all times."""
        return f"{place + 1}-0"

    # CommandReader

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        await self.gates.wait()
        found = await super().states(command_ids)
        await self.gates.wait()
        return found

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        await self.gates.wait()
        found = list(self.known.values())
        await self.gates.wait()
        return Page(found, "")

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        await self.gates.wait()
        states = [self.known[command_id] for command_id in command_ids]
        return [
            CommandResult(
                command_id=one.command_id,
                agent_id=one.agent_id,
                type=one.type,
                status=one.status,
                attempt=one.attempt,
                reason=one.reason,
                exit_code=None,
                data=None,
                output_bytes=0,
                output_dropped_bytes=0,
                finished_ms=1,
            )
            for one in states
        ]

    async def listed(self, query: CommandFilter, cursor: str, size: int) -> tuple[list[tuple[CommandState, str]], str]:
        page = await self.page(query, cursor, size)
        return [(state, "") for state in page.items], page.next_page_token

    async def labels(self, agent_ids: Sequence[str]) -> list[Mapping[str, str]]:
        return [{} for _ in agent_ids]

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        await self.gates.wait()
        away = self.away_since_ms
        await self.gates.wait()
        return [AgentInfo(agent_id, 1, not away, 4, 0, 0, (), {}, "1", 1, 1, away) for agent_id in agent_ids]

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        return [] if after else ["agent123"]


class InterleavedLog:
    """The event log and history as one bridge reads them: `delivers` lets events through, `loses` skips them."""

    def __init__(self, store: InterleavedStore) -> None:
        self._store = store
        self._place = len(store.events)
        self._wake = asyncio.Event()
        self._due = 0
        self._lost = False

    def delivers(self, count: int) -> None:
        """Let the next events come."""
        self._due += count
        self._wake.set()

    def loses(self) -> None:
        """Trim the events that have not come, and say so."""
        self._lost = True
        self._wake.set()

    async def tail(self, position: str) -> AsyncGenerator[EventBatch, None]:
        while True:
            if self._lost:
                self._lost, self._place = False, len(self._store.events)
                yield EventBatch(await self.last_position(), "", (), missed=True)
            elif self._due and self._place < len(self._store.events):
                self._due -= 1
                self._place += 1
                yield self._store.events[self._place - 1]
            else:
                self._due = 0
                self._wake.clear()
                await self._wake.wait()

    async def last_position(self) -> str:
        return self._store.position_of(len(self._store.events) - 1)

    async def reaches(self, position: str) -> bool:
        return True

    async def between(self, after: str, until: str) -> list[EventBatch]:
        await self._store.gates.wait()
        first, last = (int(position.removesuffix("-0")) for position in (after, until))
        return self._store.events[first : min(last, first + 3)]


class InterleavedOutput(MemoryOutputLog):
    """No output, which is found to be none when the test lets it."""

    def __init__(self, gates: Gates) -> None:
        super().__init__()
        self._gates = gates

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        await self._gates.wait()
        return []
