"""The use case of callers that queues ended commands again, as new commands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from distributor.dispatch.command_service import CommandService, scoped_key
from distributor.dispatch.ports import CommandReader
from distributor.dispatch.refusals import bounded, no_such_command, not_ended, valid
from distributor.dispatch.visibility import Visibility
from distributor.errors import DistributorError, FailedPrecondition, InvalidArgument
from distributor.identity.caller import Caller
from distributor.model.check_budget import CheckBudget, call_budget
from distributor.model.command import IDEMPOTENCY_KEY_PATTERN, CommandState, check_command_id
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandFilter
from distributor.model.queueing import NewCommand
from distributor.wire.limits import MAX_BATCH_COMMANDS, MAX_PAGE

RETRIED_BY_DEFAULT: Final = (CommandStatus.FAILED, CommandStatus.TIMEOUT, CommandStatus.CANCELLED)
ALL_COMMANDS: Final = CommandFilter()
MAX_KEY: Final = 100
READ_AT_ONCE: Final = 50
"""Bounds the memory for stored commands: 50 with params of 256 KiB are 13 MB."""


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """Which ended commands to queue again: `command_ids`, or the newest `limit` that match `where`.

    With `dry_run` they are only counted. `limit` 0 means the maximum, 1,000.
    """

    command_ids: Sequence[str] = ()
    where: CommandFilter = ALL_COMMANDS
    dry_run: bool = False
    limit: int = 0
    idempotency_key: str = ""


class Retried(NamedTuple):
    """The outcome for one command: the id of the new command, or the error."""

    command_id: str
    outcome: str | DistributorError


class Retries(NamedTuple):
    """The answer. `matched` counts the ended commands that were named or match, up to the limit; `more` match."""

    commands: Sequence[Retried]
    matched: int
    more: bool = False


class Origin(NamedTuple):
    """What a repeated command is made from. `new_id` is its id, `idempotency_key` may be empty."""

    command_id: str
    encoded: bytes
    new_id: str
    idempotency_key: str
    caller: Caller
    budget: CheckBudget


class Repeated(NamedTuple):
    """A command to queue that repeats another. `earlier` is the command that the other one repeated, or empty."""

    new: NewCommand
    earlier: str


Repeat: TypeAlias = Callable[[Origin], Repeated]
"""Make the new command. Raises DistributorError if the old one cannot be read or is not valid any more."""


class Retrying:
    """Queues ended commands again. Safe for concurrent use on one event loop."""

    def __init__(self, service: CommandService, reader: CommandReader, repeat: Repeat) -> None:
        self._service = service
        self._reader = reader
        self._repeat = repeat
        self._visibility = Visibility(reader)

    async def retry(self, caller: Caller, request: RetryRequest) -> Retries:
        """Queue the commands again, the oldest first, and answer each.

        Raises InvalidArgument for an invalid request, and Unavailable or ResourceExhausted if nothing was queued. If
        that happens part-way, the error is the outcome of each remaining command.
        """
        _check(request)
        if request.command_ids:
            return await self._retry_named(caller, request)
        ids, more = await self._matching(caller, request)
        if request.dry_run:
            return Retries((), len(ids), more)
        # Of commands with equal priority, the one queued first runs first.
        outcomes = await self._queue_again(caller, ids[::-1], request.idempotency_key, matched=True)
        retried = {id: outcomes[id] for id in ids if id in outcomes} | outcomes
        return Retries([Retried(*one) for one in retried.items()], len(ids), more)

    async def _retry_named(self, caller: Caller, request: RetryRequest) -> Retries:
        ids = list(dict.fromkeys(request.command_ids))
        states = await self._visibility.commands(caller, await self._reader.states(ids))
        ended = [id for id, state in zip(ids, states, strict=True) if state is not None and state.status.terminal]
        if request.dry_run:
            return Retries((), len(ended))
        refused = {id: _refusal(id, state) for id, state in zip(ids, states, strict=True) if id not in set(ended)}
        outcomes = await self._queue_again(caller, ended, request.idempotency_key, matched=False) | refused
        return Retries([Retried(id, outcomes[id]) for id in ids], len(ended))

    async def _matching(self, caller: Caller, request: RetryRequest) -> tuple[list[str], bool]:
        """Ids of the newest that match, up to the limit, and whether there are more."""
        where = replace(request.where, statuses=request.where.statuses or RETRIED_BY_DEFAULT)
        limit = request.limit or MAX_BATCH_COMMANDS
        found: list[str] = []
        token = ""
        while len(found) <= limit:
            page = await self._service.page(caller, where, token, min(limit + 1 - len(found), MAX_PAGE))
            found += [state.command_id for state in page.items]
            token = page.next_page_token
            if not token:
                break
        return found[:limit], len(found) > limit

    async def _queue_again(
        self, caller: Caller, ids: Sequence[str], key: str, *, matched: bool
    ) -> dict[str, str | DistributorError]:
        """Queue ended commands again, in order. Returns the outcome for each by its id.

        If they are `matched` by a filter, one made by an earlier call with `key` stands for the command it repeats.
        """
        outcomes: dict[str, str | DistributorError] = {}
        budget = call_budget(len(ids))
        for first in range(0, len(ids), READ_AT_ONCE):
            some = ids[first : first + READ_AT_ONCE]
            try:
                outcomes |= await self._queue_some(caller, some, key, matched, budget)
            except DistributorError as error:
                if not first:
                    raise
                # Some are queued, and the caller must learn which.
                return outcomes | dict.fromkeys(ids[first:], error)
        return outcomes

    async def _queue_some(
        self, caller: Caller, ids: Sequence[str], key: str, matched: bool, budget: CheckBudget
    ) -> dict[str, str | DistributorError]:
        read = await asyncio.gather(*(self._reader.details(id) for id in ids))
        outcomes: dict[str, str | DistributorError] = {}
        repeated: dict[str, Repeated] = {}
        agent_ids = [details.state.agent_id if details is not None else "" for details in read]
        for id, new_id, details in zip(ids, self._service.new_ids(agent_ids), read, strict=True):
            try:
                encoded = _retained(id, details)
                origin = Origin(id, encoded, new_id, _key_for(id, key), caller, CheckBudget(call=budget))
                # A check against a schema may take long, whatever the size.
                repeated[id] = await asyncio.to_thread(self._repeat, origin)
            except DistributorError as error:
                outcomes[id] = error
        made = await self._made_under(caller, repeated, key) if matched and key else {}
        for new_id, earlier in made.items():
            del repeated[new_id]
            outcomes[earlier] = new_id
        answers = await self._service.queue_many(caller, [one.new for one in repeated.values()])
        for id, answer in zip(repeated, answers, strict=True):
            outcomes[id] = answer if isinstance(answer, DistributorError) else answer.command_id
        return outcomes

    async def _made_under(self, caller: Caller, repeated: Mapping[str, Repeated], key: str) -> dict[str, str]:
        """Those of the commands that an earlier call with `key` made, with the command that each repeats."""
        earlier = {id: one.earlier for id, one in repeated.items() if one.earlier}
        owners = await self._reader.queued_under(
            [(repeated[id].new.agent_id, scoped_key(caller, _key_for(old, key))) for id, old in earlier.items()]
        )
        return {id: old for (id, old), owner in zip(earlier.items(), owners, strict=True) if owner == id}


def _check(request: RetryRequest) -> None:
    where, ids = request.where, request.command_ids
    if ids and where != ALL_COMMANDS:
        raise InvalidArgument("command_ids and filter exclude each other", field="filter", reason="IDS_AND_FILTER")
    if not ids and where == ALL_COMMANDS:
        raise InvalidArgument(
            "name command_ids, or set at least one field of filter", field="filter", reason="EMPTY_FILTER"
        )
    bounded("command_ids", ids)
    for command_id in ids:
        valid(check_command_id, command_id, "command_ids")
    unended = [status for status in where.statuses if not status.terminal]
    if unended:
        raise InvalidArgument(
            f"only commands that have ended can be queued again, filter.statuses has {unended[0]}",
            field="filter.statuses",
            reason="STATUS_NOT_TERMINAL",
        )
    if not 0 <= request.limit <= MAX_BATCH_COMMANDS:
        raise InvalidArgument(
            f"limit must be 0 to {MAX_BATCH_COMMANDS:,}, not {request.limit:,}",
            field="limit",
            reason="LIMIT_OUT_OF_RANGE",
        )
    key = request.idempotency_key
    if key and (len(key) > MAX_KEY or not IDEMPOTENCY_KEY_PATTERN.fullmatch(key)):
        raise InvalidArgument(
            f"idempotency_key must be at most {MAX_KEY} printable ASCII characters without spaces",
            field="idempotency_key",
            reason="INVALID_IDEMPOTENCY_KEY",
        )


def _refusal(command_id: str, state: CommandState | None) -> DistributorError:
    return no_such_command(command_id) if state is None else not_ended(state)


def _retained(command_id: str, details: CommandDetails | None) -> bytes:
    if details is None:
        raise no_such_command(command_id)
    if details.encoded is None:
        raise FailedPrecondition(
            f"the params of command {command_id} are no longer retained",
            field="command_id",
            reason="PARAMS_NOT_RETAINED",
        )
    return details.encoded


def _key_for(command_id: str, key: str) -> str:
    """The idempotency key of the new command: as two calls with `key` have the same, a command is repeated once."""
    return f"retry-{hashlib.sha256(f'{key} {command_id}'.encode()).hexdigest()}" if key else ""
