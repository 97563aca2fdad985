"""When a change of Valkey is durable, and may be acknowledged.

The setting `durability` and the Valkey decide which of these applies:

    process, embedded, or external with appendonly no                Durability
    process, external                                                WrittenFirst; with everysec, it asks for a proof
    disk, embedded                                                   SyncedByUs
    disk, external with appendfsync always                           SyncedByValkey, or SyncedUnseen without CONFIG
    replicated, external                                             Replicated

Valkey executes what a connection sends in order, so a `proof` that travels behind the calls of an exchange says how
things are after them. WAITAOF is used only with `appendfsync always`: with `everysec` it often answers before the
fsync, and for replicas only about once a second (docs/decisions/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from distributor.errors import DistributorError, Unavailable
from distributor.observability.logging import get_logger
from distributor.store.connections import Pipeline
from distributor.store.group_commit import GroupCommit, not_durable
from distributor.store.valkey_connection import Argument

logger = get_logger()

TIMEOUT_SECONDS: Final = 5.0
"""Bound of the wait for durability. Below the timeout of a reply, so that the connection survives."""
POLL_SECONDS: Final = 0.005
SYNC_SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")
"""Valkey's settings that decide when it fsyncs."""
SYNCED_SETTINGS: Final = {b"appendonly": b"yes", b"appendfsync": b"always", b"no-appendfsync-on-rewrite": b"no"}
"""With these, Valkey replies after the fsync."""
MARKER_CHANNEL: Final = "distributor:commit"
"""A message to it is the smallest write that replicas must acknowledge. Nothing listens."""


class Durability:
    """The base class. On its own: Valkey does what is needed before it replies, so each reply is a proof."""

    proof: tuple[Argument, ...] = ()
    """A command to send behind the calls of each exchange; empty for none."""
    waits = False
    """Whether a change may be read before it is durable."""

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        """Call with the reply to `proof`, None if there was none, as soon as it is there.

        Return None if all that it follows is durable.
        Otherwise return a future that ends once it is, and raises Unavailable if it may not be. The futures of one
        connection end in the order of the calls. They are shared, so do not cancel them.
        """
        return None

    async def settled(self) -> None:
        """Return once all that Valkey had done before the call is durable. Raises Unavailable if it may not be."""

    async def refresh(self) -> None:
        """Adapt to settings of Valkey that were changed while it runs. Called every second."""


class _OnConnection(Durability):
    """Knows the connection of the exchanges, on which proofs travel."""

    waits = True

    def __init__(self, connection: Pipeline) -> None:
        self._connection = connection

    async def settled(self) -> None:
        covered = self.covered(await self._connection.call(*self.proof) if self.proof else None)
        if covered is not None:
            await asyncio.shield(covered)

    async def _persistence(self, connections: frozenset[int]) -> dict[bytes, bytes]:
        """Return Valkey's state of its files.

        Raises Unavailable if Valkey cannot write, or if it is another process than sent the replies. `connections` has
        the ordinal numbers of the connections over which these came.
        """
        info = info_fields(await self._connection.call("INFO", "persistence"))
        if connections != {self._connection.number}:
            raise not_durable("the connection to Valkey was lost")
        check_persistence(info)
        return info


class WrittenFirst(_OnConnection):
    """Wait until Valkey has written a change to its append-only file, so that killing Valkey does not lose it.

    Only with `everysec` may Valkey postpone a write, while an fsync is under way. If none is when the proof executes,
    it writes before it replies. With `always` or `no` it always does, so no proof is needed. A change of this setting
    is noticed within about a second.
    """

    def __init__(self, connection: Pipeline, *, may_postpone: bool = True) -> None:
        """`may_postpone` is whether Valkey may reply before it has written."""
        super().__init__(connection)
        self._group = GroupCommit(self.written, TIMEOUT_SECONDS)
        self._settings: dict[bytes, bytes] = {}
        self._set_may_postpone(may_postpone)

    def _set_may_postpone(self, may_postpone: bool) -> None:
        self.may_postpone = self.waits = may_postpone
        self.proof = ("INFO", "persistence") if may_postpone else ()

    async def refresh(self) -> None:
        """Ask for proofs from now on if the settings need them. Without permission for CONFIG GET, they do."""
        try:
            reply = await self._connection.call("CONFIG", "GET", *SYNC_SETTINGS)
        except Unavailable:
            return
        except DistributorError:
            self._set_may_postpone(True)
            return
        found = dict(zip(reply[::2], reply[1::2], strict=True))
        self._set_may_postpone(may_postpone(found))
        if self._settings and found != self._settings:
            shown = ", ".join(f"{name.decode()} {value.decode()}" for name, value in sorted(found.items()))
            logger.warning("settings of Valkey on which durability depends were changed", settings=shown)
        self._settings = found

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        if proof is None:
            # Sent before the setting was changed.
            return self._group.covered(self._connection.number) if self.may_postpone else self._group.latest
        try:
            if isinstance(proof, DistributorError):
                raise not_durable(str(proof))
            info = info_fields(proof)
            check_persistence(info)
        except DistributorError as error:
            return failed(error)
        if info[b"aof_pending_bio_fsync"] == b"0":
            # Earlier exchanges still wait. They are covered too, and end first.
            return self._group.latest
        return self._group.covered(self._connection.number)

    async def written(self, connections: frozenset[int]) -> None:
        """Return once all replies sent over these connections are written. Raises Unavailable if one may not be."""
        info = await self._persistence(connections)
        base, target = info[b"aof_base_size"], _end_of_data(info)
        while info[b"aof_pending_bio_fsync"] != b"0" and int(info[b"aof_current_size"]) < target:
            await asyncio.sleep(POLL_SECONDS)
            info = await self._persistence(connections)
            if info[b"aof_base_size"] != base:
                # A rewrite has changed what the sizes mean.
                base, target = info[b"aof_base_size"], _end_of_data(info)


class SyncedByUs(_OnConnection):
    """Fsync the files of the embedded Valkey. One fsync covers all exchanges that were answered before it began.

    Valkey writes before it replies unless its disk is full, so it is asked for write errors before each fsync.
    """

    def __init__(self, connection: Pipeline, sync: Callable[[], Awaitable[None]]) -> None:
        """`sync` returns once everything written before the call is on disk, or raises OSError."""
        super().__init__(connection)
        self._sync = sync
        self._group = GroupCommit(self._synced, TIMEOUT_SECONDS)

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        return self._group.covered(self._connection.number)

    async def _synced(self, connections: frozenset[int]) -> None:
        await self._persistence(connections)
        await self._sync()


class SyncedByValkey(_OnConnection):
    """Check with each exchange that Valkey's settings still let it reply only after its fsync."""

    proof = ("CONFIG", "GET", *SYNC_SETTINGS)

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        if isinstance(proof, DistributorError):
            return failed(not_durable(str(proof)))
        found = dict(zip(proof[::2], proof[1::2], strict=True))
        for name, wanted in SYNCED_SETTINGS.items():
            if found.get(name) != wanted:
                shown = [text.decode() for text in (name, found.get(name, b"unknown"), wanted)]
                return failed(not_durable("{} of Valkey is {} now, not {}".format(*shown)))
        return None


class SyncedUnseen(_OnConnection):
    """Like SyncedByValkey, without permission for CONFIG: WAITAOF fails unless `appendonly` is on and Valkey fsyncs."""

    proof = ("WAITAOF", 1, 0, round(TIMEOUT_SECONDS * 1000))

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        if isinstance(proof, DistributorError):
            return failed(not_durable(str(proof)))
        return None if proof[0] >= 1 else failed(not_durable("Valkey did not fsync it in time"))


class Replicated(_OnConnection):
    """Wait until enough replicas have a change.

    WAIT occupies its connection, so it has one of its own, and waits only for what that connection wrote: a message to
    a channel, published after the exchanges were answered. Both connections must reach the same primary.
    """

    proof = ("INFO", "replication")

    def __init__(
        self,
        connection: Pipeline,
        waiting: Pipeline,
        replicas: int,
        local: WrittenFirst | None = None,
    ) -> None:
        """`waiting` is the connection for WAIT.

        `local` waits for the primary's own write: if the primary loses a change and restarts, its replicas lose it too.
        """
        super().__init__(connection)
        self._waiting = waiting
        self._replicas = replicas
        self._group = GroupCommit(self._replicated, TIMEOUT_SECONDS + 1)
        self._local = local

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        if isinstance(proof, DistributorError):
            return failed(not_durable(str(proof)))
        return self._group.covered((self._connection.number, _history(proof)))

    async def refresh(self) -> None:
        if self._local is not None:
            await self._local.refresh()

    async def _replicated(self, marks: frozenset[tuple[int, bytes]]) -> None:
        if self._local is not None and self._local.may_postpone:
            await self._local.written(frozenset(number for number, _ in marks))
        published, count, info = await self._waiting.exchange(
            [
                ("PUBLISH", MARKER_CHANNEL, ""),
                ("WAIT", self._replicas, round(TIMEOUT_SECONDS * 1000)),
                ("INFO", "replication"),
            ]
        )
        # Without the message, WAIT would wait for nothing.
        for reply in (published, count, info):
            if isinstance(reply, DistributorError):
                raise not_durable(str(reply))
        if count < self._replicas:
            raise not_durable(f"{count} of {self._replicas} replicas have acknowledged it")
        if {history for _, history in marks} != {_history(info)}:
            raise not_durable("another Valkey is the primary now")


def failed(error: DistributorError) -> asyncio.Future[None]:
    """A future that has failed."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


def check_persistence(info: dict[bytes, bytes]) -> None:
    """Raise Unavailable unless Valkey writes to its append-only file."""
    if info.get(b"aof_enabled") != b"1":
        raise not_durable("appendonly of Valkey is no")
    if info.get(b"aof_last_write_status") != b"ok":
        raise not_durable("Valkey cannot write to its append-only file")


def info_fields(info: bytes) -> dict[bytes, bytes]:
    """The fields of a reply to INFO."""
    return dict([line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line])


def may_postpone(settings: Mapping[bytes, bytes]) -> bool:
    """Whether a Valkey with these settings may reply before it has written to its append-only file."""
    return settings.get(b"appendonly") != b"yes" or settings.get(b"appendfsync") not in (b"always", b"no")


def _end_of_data(info: dict[bytes, bytes]) -> int:
    """The size of the files once Valkey has written its buffer."""
    return int(info[b"aof_current_size"]) + int(info[b"aof_buffer_length"])


def _history(info: bytes) -> bytes:
    """Identifies a primary: a replica that takes over begins another history."""
    return info_fields(info).get(b"master_replid", b"")
