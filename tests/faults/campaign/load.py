"""A seeded stream of commands, each watched from its queueing to its end, with everything noted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from distributor.client import (
    CommandClient,
    CommandRequest,
    CommandResult,
    CommandState,
    OutputChunk,
    OutputGap,
)
from distributor.errors import DistributorError, NotFound, Unavailable
from tests.faults.campaign.history import History, Kind
from tests.faults.campaign.ledger import Work, now
from tests.faults.campaign.world import World

CONCURRENT_READS: Final = 16
READ_SECONDS: Final = 30.0
"""How long a command is read again while no server answers."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Which commands come, and how fast."""

    per_second: float = 12.0
    long_share: float = 0.1
    """Of commands that run for about two seconds."""
    cancelled_share: float = 0.1
    rerun_share: float = 0.1
    """Of commands whose first run fails, and which may run twice."""
    time_limit_seconds: float = 60.0
    most_waiting: int = 60
    """Above this number of commands that have not ended, none are added."""


class Load:
    """Queues commands until stopped; `ended` waits for the last of them."""

    def __init__(self, world: World, seed: int, mix: Mix, prefix: str) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._mix = mix
        self._prefix = prefix
        self._number = 0
        self._following: set[asyncio.Task[None]] = set()
        self._followers: list[Follower] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._queueing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Commands that have not ended."""
        return len(self._following)

    def start(self) -> None:
        """Begin to queue."""
        self._queueing = asyncio.create_task(self._queue_all())

    async def stop(self) -> None:
        """Queue no more."""
        if self._queueing is not None:
            self._queueing.cancel()
            await asyncio.wait([self._queueing])
            if not self._queueing.cancelled():
                self._queueing.result()

    async def ended(self, within_seconds: float) -> None:
        """Wait until all commands have ended, but no longer than this; those that have not count as lost."""
        if self._following:
            _, late = await asyncio.wait(self._following, timeout=within_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for task in self._following:
            if not task.cancelled():
                task.result()

    async def read_again(self) -> None:
        """Read every acknowledged command once more: what was lost since it ended is found only by this."""
        places = asyncio.Semaphore(CONCURRENT_READS)

        async def read(follower: Follower) -> None:
            async with places:
                await follower.read_again()

        await asyncio.gather(*(read(follower) for follower in self._followers))

    async def look(self, agent_id: str) -> None:
        """Read the state of each command of this agent that has not ended, once."""
        await asyncio.gather(*(one.look() for one in self._followers if one.agent_id == agent_id))

    async def ended_of(self, tokens: Sequence[str]) -> None:
        """Wait until these commands have ended."""
        await asyncio.wait([self._tasks[token] for token in tokens])

    def add(self, agent_id: str, work: Work, **options: Any) -> str:
        """Queue one more command now; return its token."""
        self._number += 1
        token = f"{self._prefix}-{self._number}"
        follower = Follower(self._world, token, agent_id, self._random.randrange(1_000))
        self._followers.append(follower)
        task = asyncio.create_task(follower.run(work, self._mix.time_limit_seconds, **options))
        self._following.add(task)
        self._tasks[token] = task
        return token

    async def _queue_all(self) -> None:
        while True:
            if sum(not task.done() for task in self._following) < self._mix.most_waiting:
                agent = self._random.choice(self._world.agents)
                cancel_after = self._random.uniform(0.0, 1.0)
                cancelled = self._random.random() < self._mix.cancelled_share
                self.add(agent.agent_id, self._work(), cancel_after=cancel_after if cancelled else None)
            await asyncio.sleep(self._random.expovariate(self._mix.per_second))

    def _work(self) -> Work:
        if self._random.random() < self._mix.long_share:
            return Work(ticks=10, tick_seconds=0.2, lines=self._random.randrange(3))
        failures = int(self._random.random() < self._mix.rerun_share)
        return Work(self._random.randrange(2), tick_seconds=0.05, lines=self._random.randrange(4), failures=failures)


class Follower:
    """One command: queues it, watches it to its end, perhaps cancels it, and reads it again elsewhere."""

    def __init__(self, world: World, token: str, agent_id: str, draw: int) -> None:
        self._history: History = world.history
        self._ledger = world.ledger.path
        self._token = token
        self.agent_id = agent_id
        self._command_id: str | None = None
        self._ended = False
        clients = world.clients
        self._client: CommandClient = clients[draw % len(clients)]
        self._other: CommandClient = clients[(draw + 1) % len(clients)]

    async def run(
        self,
        work: Work,
        time_limit_seconds: float,
        cancel_after: float | None = None,
        priority: int = 50,
        rivals: Sequence[CommandClient] = (),
        reader: CommandClient | None = None,
    ) -> None:
        """Follow the command to its end.

        `rivals` queue it at the same time under its key. A `reader` watches it in place of the client that queued
        it, and does not hold the program back.
        """
        request = CommandRequest(
            self.agent_id,
            "EXEC",
            params={"argv": [*work.argv(self._ledger, self._token)]},
            priority=priority,
            time_limit_seconds=time_limit_seconds,
            idempotency_key=self._token,
            max_runs_by_reason={"exit_nonzero": 1 + work.failures} if work.failures else {},
        )
        self._history.note(Kind.ASKED, self._token, agent=self.agent_id, priority=priority, work=asdict(work))
        ids = await asyncio.gather(*(self._queue(client, request) for client in (self._client, *rivals)))
        self._command_id = command_id = ids[0]
        if command_id is None:
            return
        cancelling = None if cancel_after is None else asyncio.create_task(self._cancel(command_id, cancel_after))
        try:
            await self._watch(reader or self._client, command_id, hold_output=reader is None)
            self._ended = True
            await self._read(self._other, command_id)
        finally:
            if cancelling is not None:
                cancelling.cancel()
                await asyncio.wait([cancelling])

    async def read_again(self) -> None:
        """Read it from the server that did not read its end, if it was acknowledged and there are two."""
        if self._command_id is None:
            return
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._read(self._client, self._command_id)
        except TimeoutError:
            self._history.note(Kind.UNREADABLE, self._token, error=f"read again: no answer for {READ_SECONDS:g} s")

    async def look(self) -> None:
        """Note its state, if it was acknowledged, has not ended, and the server answers."""
        if self._command_id is None or self._ended:
            return
        begun = now()
        with suppress(Unavailable):
            command = await self._client.get(self._command_id)
            note_state(self._history, self._token, command.state, "look", since=begun)

    async def _queue(self, client: CommandClient, request: CommandRequest) -> str | None:
        """Queue it under its key until somebody says what became of it."""
        while True:
            try:
                queued = await client.queue(request)
            except Unavailable as error:
                self._history.note(Kind.UNANSWERED, self._token, error=str(error))
                await asyncio.sleep(0.2)
            except DistributorError as error:
                self._history.note(Kind.REFUSED, self._token, code=error.code, error=str(error))
                return None
            else:
                self._history.note(Kind.ACKNOWLEDGED, self._token, command_id=queued.command_id)
                return queued.command_id

    async def _cancel(self, command_id: str, after: float) -> None:
        await asyncio.sleep(after)
        self._history.note(Kind.CANCEL, self._token)
        while True:
            try:
                note_state(self._history, self._token, await self._other.cancel(command_id, "campaign"), "cancel")
                return
            except Unavailable:
                await asyncio.sleep(0.2)
            except NotFound as error:
                self._history.note(Kind.UNREADABLE, self._token, error=f"cancel: {error}")
                return

    async def _watch(self, client: CommandClient, command_id: str, hold_output: bool) -> None:
        offset = 0
        while True:
            try:
                watch = client.watch(command_id, output_offset=offset, hold_output=hold_output)
                async with aclosing(watch) as updates:
                    async for update in updates:
                        offset = max(offset, self._note(update))
                        if isinstance(update, CommandResult):
                            return
            except Unavailable:
                await asyncio.sleep(0.2)
            except NotFound as error:
                self._history.note(Kind.UNREADABLE, self._token, error=f"watch: {error}")
                return

    def _note(self, update: CommandState | OutputChunk | OutputGap | CommandResult) -> int:
        """Note an update; return the offset after it if it is output."""
        match update:
            case CommandState():
                note_state(self._history, self._token, update, "watch")
            case OutputChunk():
                self._history.note_output(self._token, "watch", update.offset, update.data)
                return update.end_offset
            case OutputGap():
                self._history.note(
                    Kind.GAP, self._token, reader="watch", offset=update.begin_offset, end=update.end_offset
                )
                return update.end_offset
            case CommandResult():
                self._history.note(Kind.READER_ENDED, self._token, reader="watch")
                self._note_result(update)
        return 0

    async def _read(self, client: CommandClient, command_id: str) -> None:
        """Read its state and result."""
        while True:
            begun = now()
            try:
                command = await client.get(command_id)
                note_state(self._history, self._token, command.state, "get", since=begun)
                self._note_result(await client.result(command_id))
                return
            except Unavailable:
                await asyncio.sleep(0.2)
            except DistributorError as error:
                self._history.note(Kind.UNREADABLE, self._token, error=f"read: {error}")
                return

    def _note_result(self, result: CommandResult) -> None:
        self._history.note(Kind.RESULT, self._token, result=repr(result))


def note_state(history: History, token: str, state: CommandState, by: str, since: float | None = None) -> None:
    """Note a state that was seen."""
    details: Mapping[str, Any] = {
        "status": state.status.value,
        "reason": state.reason.code,
        "attempt": state.attempt,
        "by": by,
        "since": since,
    }
    history.note(Kind.STATE, token, **details)
