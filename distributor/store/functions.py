"""Loads the Lua functions into Valkey and calls them.

All functions form one library. Its name and the function names contain a digest of the source, so that servers of
two versions can share a Valkey during an upgrade.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from distributor.errors import DistributorError
from distributor.model.event import Event, EventBatch
from distributor.model.lifecycle import CANCEL_STAGES, TRANSITIONS, CancelStage, CommandStatus
from distributor.model.repair import Repair, RepairKind
from distributor.observability.logging import get_logger
from distributor.store import keys
from distributor.store.connections import Pipeline, Reads
from distributor.store.durability import Durability
from distributor.store.event_entries import own_events
from distributor.store.keys import lua_keys, lua_prelude
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument

logger = get_logger()

FOLDER: Final = resources.files("distributor.store") / "functions"
UNACKNOWLEDGED: Final = frozenset({"check_indexes", "due"})
"""Functions whose callers acknowledge nothing: without events, nobody relies on what they changed."""
Observer = Callable[[str, int, float], None]
"""Receives each round trip: the function, the number of items, and the duration in seconds."""
ImpliedEvents = Callable[[Any], Sequence[Event]]
"""Returns the events that a reply implies."""


def library_source() -> tuple[str, str]:
    """The library as Lua source, and its version: eight hexadecimal digits of the source's digest."""
    files = sorted((entry for entry in FOLDER.iterdir() if entry.name.endswith(".lua")), key=lambda entry: entry.name)
    shared = (FOLDER / "_shared.lua").read_text()
    # One block per file, so that local names cannot clash.
    texts = [entry.read_text() for entry in files if entry.name != "_shared.lua"]
    blocks = [f"do\n{lua_keys(text, shared)}\n{text}\nend\n" for text in texts]
    body = "\n".join([lua_prelude(shared), lua_transitions(), lua_cancel_stages(), shared, *blocks])
    version = hashlib.sha256(body.encode()).hexdigest()[:8]
    return f"#!lua name=distributor_{version}\nlocal VERSION = '{version}'\n{body}", version


def lua_transitions() -> str:
    """Lua source of the table that validates every change of state: `TRANSITIONS[before][after]`."""
    lines = []
    for before in CommandStatus:
        reached = {after for targets in TRANSITIONS.values() for after in targets.get(before, ())}
        lines.append(f"{before} = {{{', '.join(f'{after} = true' for after in CommandStatus if after in reached)}}}")
    return f"local TRANSITIONS = {{{', '.join(lines)}}}\n"


def lua_cancel_stages() -> str:
    """Lua source of the table of a cancel's stages: `CANCEL_STAGES[before][after]`."""
    lines = [
        f"{before} = {{{', '.join(f'{after} = true' for after in CancelStage if after in targets)}}}"
        for before, targets in CANCEL_STAGES.items()
    ]
    return f"local CANCEL_STAGES = {{{', '.join(lines)}}}\n"


def no_events(*_: Any) -> Sequence[Event]:
    """The function returns all of its events."""
    return ()


class FunctionCall(NamedTuple):
    """A call of function `name` for `items` items."""

    name: str
    arguments: Sequence[Argument]
    items: int = 1


class Functions:
    """Calls the functions by their short names. Loads the library if Valkey lacks it.

    `on_changes` receives what each call has changed, before its caller receives the reply, and once that is durable.
    `on_repair` receives each repair of a damaged record that a call has met; the index check returns its own. `observe`
    receives each round trip, `on_failure` the name of each function whose call failed.
    """

    def __init__(
        self,
        connection: Pipeline,
        replica: str = "",
        policy: StorePolicy | None = None,
        durability: Durability | None = None,
        shard: str = keys.ONLY_SHARD,
    ) -> None:
        """The functions work on what one shard has, that with the tag `shard`."""
        self.names = keys.ShardNames(shard)
        self._events_key = self.names(keys.EVENTS)
        self._durability = durability or Durability()
        policy = policy or StorePolicy()
        self.on_changes: Callable[[EventBatch], None] = _ignore
        self.on_repair: Callable[[Repair], None] = _ignore_repair
        self.observe: Observer | None = None
        self.on_failure: Callable[[str], None] | None = None
        self._connection = connection
        self._replica = replica
        self._head: tuple[Argument, ...] = (
            (replica, "MINID", policy.events_kept_ms)
            if policy.events_kept_ms
            else (replica, "MAXLEN", policy.events_kept)
        )
        self._calling: set[asyncio.Future[Any]] = set()
        self._source, self._version = library_source()

    async def load(self) -> None:
        """Load the library unless it is present: a Valkey that is full or cannot save rejects loading."""
        if not await self._connection.call("FUNCTION", "LIST", "LIBRARYNAME", f"distributor_{self._version}"):
            # Another server may have loaded the same source in the meantime.
            await self._connection.call("FUNCTION", "LOAD", "REPLACE", self._source)

    async def check_writable(self) -> None:
        """Raise Unavailable while Valkey rejects writes. Adapts to changed settings of Valkey as well."""
        await self.call("probe", ())
        await self._durability.refresh()

    async def call(self, name: str, arguments: Sequence[Argument], items: int = 1) -> Any:
        """Call a function that changes something and return its reply."""
        # A change whose caller has gone is reported like any other.
        calling = asyncio.ensure_future(self._call(FunctionCall(name, arguments, items)))
        self._calling.add(calling)
        calling.add_done_callback(self._calling.discard)
        return await asyncio.shield(calling)

    async def _call(self, call: FunctionCall) -> Any:
        begun = time.perf_counter()
        packed = self._packed(call.name, *self._head, *call.arguments)
        replies = await self._send([packed])
        if is_missing(replies[0]):
            await self.load()
            replies = await self._send([packed])
        covered = self.covered(replies, 1, wait=call.name not in UNACKNOWLEDGED or _has_events(replies[0]))
        if covered is not None:
            await self._wait(call.name, covered)
        reply = self.reply(call, replies[0], time.perf_counter() - begun)
        if isinstance(reply, DistributorError):
            raise reply
        return reply

    async def read(self, name: str, arguments: Sequence[Argument], connection: Reads | None = None) -> Any:
        """Call a function that only reads and return its reply. Large replies need a `connection` of their own."""
        begun = time.perf_counter()
        packed = self._packed(name, *arguments, by="FCALL_RO")
        reply = await (self._executed(packed) if connection is None else self._executed_over(connection, packed))
        if isinstance(reply, DistributorError):
            self.note_failure(name)
            raise reply
        if self.observe is not None:
            self.observe(name, 1, time.perf_counter() - begun)
        return reply

    def submit(self, calls: Sequence[FunctionCall]) -> asyncio.Future[list[Any]]:
        """Send calls together, to be executed in order.

        Pass the replies to `covered`, wait for that, and then pass each to `is_missing` and `reply`.
        """
        return self._send([self._packed(call.name, *self._head, *call.arguments) for call in calls])

    def covered(self, replies: list[Any], calls: int, *, wait: bool = True) -> asyncio.Future[None] | None:
        """Reduce what `submit` returned to the replies of its calls. None if what they report is durable.

        Otherwise a future of when it is, as that of `Durability.covered`. None as well unless it is to `wait`.
        """
        proof = replies.pop() if len(replies) > calls else None
        return self._durability.covered(proof) if wait else None

    def reply(self, call: FunctionCall, raw: Any, seconds: float, implied: ImpliedEvents = no_events) -> Any:
        """What the function returned, or the error that it failed with; report what it changed.

        `implied` derives from the reply those events that the function does not return. If a change cannot be reported,
        its caller still gets the reply: the change has happened.
        """
        if isinstance(raw, DistributorError):
            self.note_failure(call.name)
            return raw
        position, events, reply, *repairs = raw
        if repairs:
            self._report(call.name, repairs_of(repairs[0]))
        if position:
            try:
                changes = [*own_events(events), *implied(reply)] if events else implied(reply)
                self.on_changes(EventBatch(position.decode(), self._replica, changes))
            except Exception:
                logger.exception("a change could not be reported", function=call.name)
        if self.observe is not None:
            self.observe(call.name, call.items, seconds)
        return reply

    def _packed(self, name: str, *arguments: Argument, by: str = "FCALL") -> tuple[Argument, ...]:
        return (by, f"{name}_{self._version}", 1, self._events_key, *arguments)

    def _send(self, packed: list[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        if self._durability.proof:
            packed.append(self._durability.proof)
        return self._connection.submit(packed)

    async def _wait(self, name: str, covered: asyncio.Future[None]) -> None:
        try:
            await asyncio.shield(covered)
        except DistributorError:
            self.note_failure(name)
            raise

    async def _executed(self, packed: tuple[Argument, ...]) -> Any:
        (raw,) = await self._connection.submit([packed])
        if is_missing(raw):
            await self.load()
            (raw,) = await self._connection.submit([packed])
        return raw

    async def _executed_over(self, connection: Reads, packed: tuple[Argument, ...]) -> Any:
        try:
            return await connection.call(*packed)
        except DistributorError as error:
            if not is_missing(error):
                return error
        await self.load()
        return await connection.call(*packed)

    def _report(self, name: str, repairs: Sequence[Repair]) -> None:
        for repair in repairs:
            logger.error("repaired the store", kind=repair.kind.value, repairs=1, examples=[repair.subject], by=name)
            self.on_repair(repair)

    def note_failure(self, name: str) -> None:
        """Count a failed call of a function."""
        if self.on_failure is not None:
            self.on_failure(name)


def _has_events(raw: Any) -> bool:
    return not isinstance(raw, DistributorError) and bool(raw[0])


def is_missing(reply: Any) -> bool:
    """Whether Valkey lacked the library at a call, as a replaced or flushed one does. Then the call has not run."""
    return isinstance(reply, DistributorError) and "Function not found" in str(reply)


def repairs_of(reply: Sequence[bytes]) -> list[Repair]:
    """Parse repairs: the kind and the subject of each."""
    return [
        Repair(RepairKind(kind.decode()), subject.decode(errors="replace"))
        for kind, subject in zip(reply[::2], reply[1::2], strict=True)
    ]


def _ignore(batch: EventBatch) -> None:
    pass


def _ignore_repair(repair: Repair) -> None:
    pass
