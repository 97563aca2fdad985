"""The use cases of callers: queue, read, list and cancel commands; list agents."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence, Set
from typing import Final, Protocol

from distributor.dispatch.deadline_alarm import DeadlineAlarm
from distributor.dispatch.deadlines import MAX_WAIT_SECONDS
from distributor.dispatch.ports import CommandReader, CommandStore
from distributor.dispatch.random_bits import RandomBits
from distributor.dispatch.refusals import bad_page_token, checked_page_size, no_such_command, not_ended, refusal, valid
from distributor.dispatch.type_places import TypePlaces
from distributor.dispatch.visibility import Visibility
from distributor.errors import DistributorError, InvalidArgument, NotFound, PermissionDenied
from distributor.identity.caller import Caller
from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import (
    AGENT_ID_PATTERN,
    MAX_REASON_MESSAGE,
    CommandLimits,
    CommandResult,
    CommandState,
    InvalidField,
    check_agent_id,
    check_command_id,
    check_type,
)
from distributor.model.control import CONTROL_TYPES
from distributor.model.ids import CommandIdMint
from distributor.model.listing import CommandDetails, CommandFilter, Page
from distributor.model.queueing import Enqueued, NewCommand, check_new_command
from distributor.model.shards import ONE_SHARD, Shards, bucket_of

MAX_COMMANDS_PER_STEP: Final = 250
"""At most what the store takes in one step: commands sent together are stored together or not at all."""


class Claimer(Protocol):
    """Claims for agents as soon as something is queued for them."""

    def claim_now(self, agent_ids: Collection[str], control: Set[str]) -> None:
        """Claim for these agents; for those in `control` even if they have room for control commands only."""


class CommandService:
    """The use cases of callers, over ports. Safe for concurrent use on one event loop."""

    def __init__(
        self,
        store: CommandStore,
        reader: CommandReader,
        claimer: Claimer,
        limits: CommandLimits | None = None,
        alarm: DeadlineAlarm | None = None,
        shards: Shards = ONE_SHARD,
    ) -> None:
        self._store = store
        self._shards = shards
        self._reader = reader
        self._claimer = claimer
        self._limits = limits or CommandLimits()
        self._alarm = alarm or DeadlineAlarm()
        self._visibility = Visibility(reader)
        self.places: TypePlaces | None = None
        """Where registered types may run; None if anywhere."""
        self._mint = CommandIdMint()
        self._random_bits = RandomBits()

    # Queueing

    def new_ids(self, agent_ids: Iterable[str]) -> list[str]:
        """Ids for commands to queue, one for each of these agents. Their UUIDs ascend."""
        now_ms = time.time_ns() // 1_000_000
        return [self._new_id(now_ms, bucket_of(agent_id)) for agent_id in agent_ids]

    def _new_id(self, now_ms: int, bucket: int) -> str:
        return self._mint.mint(now_ms, self._random_bits.take(), bucket, self._shards.of_bucket(bucket))

    async def queue(self, caller: Caller, new: NewCommand) -> Enqueued:
        """Store one command. Raises the error for an invalid or refused one."""
        valid(check_new_command, new, self._limits)
        for not_permitted in (await self._refused(caller, [new])).values():
            raise not_permitted
        (queued,) = await self._stored_and_claimed([_scoped(caller, new)])
        error = refusal(new, queued, self._limits)
        if error is not None:
            raise error
        return queued

    async def queue_many(self, caller: Caller, requested: Sequence[NewCommand]) -> list[Enqueued | DistributorError]:
        """Store up to 1,000 commands, each completely or not at all, and answer each.

        Raises InvalidArgument for a larger batch, and Unavailable or ResourceExhausted if Valkey is away or full. If
        this happens part-way, the error is the answer to each remaining command.
        """
        self.check_batch(len(requested))
        answers: list[Enqueued | DistributorError | None] = [None] * len(requested)
        commands: list[NewCommand] = []
        places: list[int] = []
        refused = await self._refused(caller, requested)
        for place, new in enumerate(requested):
            if place % MAX_COMMANDS_PER_STEP == MAX_COMMANDS_PER_STEP - 1:
                # A batch of 1,000 takes several milliseconds: yield to other tasks.
                await asyncio.sleep(0)
            try:
                check_new_command(new, self._limits)
            except InvalidField as error:
                answers[place] = InvalidArgument(str(error), field=error.field, reason=error.reason)
                continue
            if place in refused:
                answers[place] = refused[place]
                continue
            commands.append(_scoped(caller, new))
            places.append(place)
        for place, new, queued in zip(places, commands, await self._enqueue(commands), strict=True):
            answers[place] = self._answer(new, queued) if isinstance(queued, Enqueued) else queued
        return [answer for answer in answers if answer is not None]

    async def _refused(self, caller: Caller, commands: Sequence[NewCommand]) -> Mapping[int, PermissionDenied]:
        """The error for each command that grants or policy do not permit, by its place."""
        refused: Mapping[int, PermissionDenied] = {}
        if not caller.grants.everything:
            refused = await self._visibility.refused(caller, commands)
        if self.places is not None and (misplaced := await self.places.refused(commands)):
            # What the grants say comes first: it tells nothing of the policy.
            refused = {**misplaced, **refused}
        return refused

    async def _enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued | DistributorError]:
        answers: list[Enqueued | DistributorError] = []
        for first in range(0, len(commands), MAX_COMMANDS_PER_STEP):
            try:
                answers += await self._stored_and_claimed(commands[first : first + MAX_COMMANDS_PER_STEP])
            except DistributorError as error:
                if not answers:
                    raise
                # Some are stored, and the caller must learn which.
                answers += [error] * (len(commands) - first)
                break
        return answers

    def _stored_and_claimed(self, commands: Sequence[NewCommand]) -> Awaitable[list[Enqueued]]:
        """Store commands and, in the same exchange, claim for their agents: those with room get them at once."""
        stored = self._store.enqueue(commands)
        self._claimer.claim_now(
            {new.agent_id for new in commands}, {new.agent_id for new in commands if new.type in CONTROL_TYPES}
        )
        shortest_ms = min([new.queue_ttl_ms for new in commands])
        return self._with_alarm(stored, shortest_ms) if shortest_ms < MAX_WAIT_SECONDS * 1_000 else stored

    async def _with_alarm(self, stored: Awaitable[list[Enqueued]], shortest_ms: int) -> list[Enqueued]:
        answers = await stored
        self._alarm.set(shortest_ms / 1_000)
        return answers

    def check_batch(self, count: int) -> None:
        """Raise InvalidArgument if one call queues too many commands."""
        if count > self._limits.max_batch:
            raise InvalidArgument(
                f"requests has {count:,} commands, the limit is {self._limits.max_batch:,}; nothing was queued",
                field="requests",
                reason="BATCH_TOO_LARGE",
            )

    def _answer(self, new: NewCommand, queued: Enqueued) -> Enqueued | DistributorError:
        return refusal(new, queued, self._limits) or queued

    # Reading

    async def get(self, caller: Caller, command_id: str) -> CommandDetails:
        """Everything about a command, from one moment. Raises NotFound."""
        valid(check_command_id, command_id)
        if not caller.grants.everything:
            # Reading all of a large command takes longer, which would tell that a hidden one exists.
            await self.state(caller, command_id)
        details = await self._reader.details(command_id)
        if details is None:
            raise no_such_command(command_id)
        return details

    async def state(self, caller: Caller, command_id: str) -> CommandState:
        """The state of a command. Raises NotFound."""
        valid(check_command_id, command_id)
        (state,) = await self._visibility.commands(caller, await self._reader.states([command_id]))
        if state is None:
            raise no_such_command(command_id)
        return state

    async def presences(self, states: Iterable[CommandState]) -> dict[str, AgentPresence]:
        """Presence of the agents of commands that have not ended, by agent id."""
        agent_ids = list(dict.fromkeys(state.agent_id for state in states if not state.status.terminal))
        return dict(zip(agent_ids, await self._reader.presences(agent_ids), strict=True)) if agent_ids else {}

    async def result(self, caller: Caller, command_id: str) -> CommandResult:
        """The result of a command. Raises NotFound, and FailedPrecondition while it has not ended."""
        valid(check_command_id, command_id)
        if caller.grants.everything:
            (result,) = await self._reader.results([command_id])
            if result is not None:
                return result
            state = await self.state(caller, command_id)
        else:
            state = await self.state(caller, command_id)
            (result,) = await self._reader.results([command_id])
            if result is not None:
                return result
        if state.status.terminal:
            raise no_such_command(command_id)
        raise not_ended(state)

    async def page(self, caller: Caller, query: CommandFilter, page_token: str, page_size: int) -> Page[CommandState]:
        """Commands, newest first. Raises InvalidArgument for an invalid page token or filter."""
        if query.agent_id:
            valid(check_agent_id, query.agent_id, "filter.agent_id")
        if query.type:
            valid(check_type, query.type, "filter.type")
        if (
            query.queued_after_ms is not None
            and query.queued_before_ms is not None
            and query.queued_before_ms <= query.queued_after_ms
        ):
            raise InvalidArgument(
                "filter.queued_before must be after filter.queued_after", field="filter", reason="EMPTY_TIME_RANGE"
            )
        size = checked_page_size(page_size, 50)
        return await self._visibility.page(caller, query, page_token, size)

    # Changing

    async def cancel(self, caller: Caller, command_id: str, message: str) -> CommandState:
        """Cancel a queued command, or ask its agent to stop it. Raises NotFound."""
        valid(check_command_id, command_id)
        if len(message) > MAX_REASON_MESSAGE:
            raise InvalidArgument(
                f"reason is {len(message):,} characters, the limit is {MAX_REASON_MESSAGE:,}",
                field="reason",
                reason="REASON_TOO_LONG",
            )
        if not caller.grants.everything:
            await self.state(caller, command_id)
        state = await self._store.cancel(command_id, message or "cancelled on request")
        if state is None:
            raise no_such_command(command_id)
        return state

    # Agents

    async def agent(self, caller: Caller, agent_id: str) -> AgentInfo:
        """What is known about an agent. Raises NotFound."""
        valid(check_agent_id, agent_id)
        found: list[AgentInfo] = []
        if caller.grants.everything or await self._visibility.agent_ids(caller, [agent_id]):
            known = [agent for agent in await self._reader.agents([agent_id]) if agent is not None]
            found = self._visibility.agents(caller, known)
        if not found:
            raise NotFound(
                f"agent '{agent_id}' has never connected, or not for a long time",
                field="agent_id",
                reason="UNKNOWN_AGENT",
            )
        return found[0]

    async def agents(self, caller: Caller, after: str, page_size: int) -> Page[AgentInfo]:
        """Agents in order of id after `after`. The page token is the id to continue after."""
        if after and not AGENT_ID_PATTERN.fullmatch(after):
            raise bad_page_token()
        limit = checked_page_size(page_size, 100)
        agent_ids = await self._visibility.known_agent_ids(caller, after, limit)
        found = [agent for agent in await self._reader.agents(agent_ids) if agent is not None]
        return Page(found, agent_ids[-1] if len(agent_ids) == limit else "")


def scoped_key(caller: Caller, key: str) -> str:
    """Keep the idempotency keys of different principals apart: none learns what another has used."""
    return hashlib.sha256(f"{caller.principal}\n{key}".encode()).hexdigest() if key and caller.known else key


def _scoped(caller: Caller, new: NewCommand) -> NewCommand:
    key = scoped_key(caller, new.idempotency_key)
    return new if key == new.idempotency_key else new._replace(idempotency_key=key)
