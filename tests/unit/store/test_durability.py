"""What proves that a change is durable, and what does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Any, NamedTuple, cast

import pytest

from distributor.errors import DistributorError, Unavailable
from distributor.store import durability
from distributor.store.durability import (
    Durability,
    Replicated,
    SyncedByUs,
    SyncedByValkey,
    SyncedUnseen,
    WrittenFirst,
)
from distributor.store.pipelined_connection import PipelinedConnection

REFUSAL = DistributorError("User default has no permissions", reason="STORE_ERROR")
GOOD = [b"appendonly", b"yes", b"appendfsync", b"always", b"no-appendfsync-on-rewrite", b"no"]


def info(pending: int = 0, size: int = 100, buffer: int = 0, base: int = 10, **changed: str) -> bytes:
    """What Valkey says about its files."""
    fields = {
        "aof_enabled": 1,
        "aof_last_write_status": "ok",
        "aof_pending_bio_fsync": pending,
        "aof_current_size": size,
        "aof_buffer_length": buffer,
        "aof_base_size": base,
        **changed,
    }
    return "".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode()


class Lost(NamedTuple):
    """A reply that comes over another connection than the one before."""

    reply: bytes


class Connection:
    """Gives the scripted replies, and the last of them ever after."""

    def __init__(self, *replies: Any) -> None:
        self.number = 1
        self.replies = deque(replies)
        self.asked = 0

    async def call(self, *arguments: Any) -> Any:
        self.asked += 1
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Lost):
            self.number += 1
            return reply.reply
        if isinstance(reply, DistributorError):
            raise reply
        return reply

    async def exchange(self, commands: Any) -> Any:
        return self.replies[0]


def on(connection: Connection) -> PipelinedConnection:
    return cast(PipelinedConnection, connection)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "POLL_SECONDS", 0)


async def refused(covered: Awaitable[None] | None, shown: str) -> None:
    assert covered is not None
    with pytest.raises(Unavailable, match=f"may or may not survive.*{shown}"):
        await covered


async def test_a_reply_alone_is_enough_where_valkey_does_what_is_wanted_first() -> None:
    plain = Durability()
    assert (plain.proof, plain.waits, plain.covered(None)) == ((), False, None)
    await plain.settled()


# WrittenFirst


async def test_what_no_fsync_holds_back_is_written_before_the_reply() -> None:
    connection = Connection(info())
    written = WrittenFirst(on(connection))
    assert written.covered(info(pending=0, buffer=500)) is None
    await written.settled()


async def test_what_an_fsync_holds_back_is_waited_for() -> None:
    connection = Connection(
        # When the wait begins, at 100 + 50.
        info(pending=1, size=100, buffer=50),
        info(pending=1, size=100, buffer=80),
        info(pending=1, size=149, buffer=31),
        # Written, though the next fsync has begun already.
        info(pending=1, size=150, buffer=30),
        info(pending=1, size=999),
    )
    covered = WrittenFirst(on(connection)).covered(info(pending=1))
    assert covered is not None
    await covered
    assert connection.asked == 4


async def test_a_rewrite_changes_what_sizes_mean() -> None:
    connection = Connection(
        info(pending=1, size=100, buffer=50, base=10),
        info(pending=1, size=200, buffer=50, base=60),
        info(pending=1, size=249, buffer=50, base=60),
        info(pending=0, size=249, buffer=50, base=60),
    )
    covered = WrittenFirst(on(connection)).covered(info(pending=1))
    assert covered is not None
    await covered
    assert connection.asked == 4


ALWAYS = [b"appendonly", b"yes", b"appendfsync", b"always", b"no-appendfsync-on-rewrite", b"no"]
EVERYSEC = [*ALWAYS[:3], b"everysec", *ALWAYS[4:]]


@pytest.mark.parametrize("setting", [EVERYSEC, [b"appendonly", b"no", *ALWAYS[2:]], REFUSAL])
async def test_proofs_are_asked_for_once_a_setting_needs_them(setting: Any) -> None:
    connection = Connection(ALWAYS, setting, Unavailable("away"), ALWAYS, info(pending=0))
    written = WrittenFirst(on(connection), may_postpone=False)
    await written.refresh()
    assert (written.proof, written.waits, written.covered(None)) == ((), False, None)
    await written.refresh()
    assert written.proof
    assert written.waits
    await written.refresh()
    assert written.proof, "while Valkey is away, nothing is known to have changed"
    await written.refresh()
    assert not written.proof


async def test_what_was_sent_before_a_setting_was_changed_is_checked_as_well() -> None:
    connection = Connection(EVERYSEC, info(pending=1, size=1, buffer=1), info(pending=0))
    written = WrittenFirst(on(connection), may_postpone=False)
    await written.refresh()
    covered = written.covered(None)
    assert covered is not None
    await covered
    assert connection.asked == 3


async def test_those_who_wait_are_not_overtaken() -> None:
    connection = Connection(info(pending=1, size=1, buffer=1), info(pending=0))
    written = WrittenFirst(on(connection))
    first = written.covered(info(pending=1))
    # Proved at once, but behind it.
    assert written.covered(info(pending=0)) is first
    assert first is not None
    await first
    assert written.covered(info(pending=0)) is None


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (info(aof_enabled="0"), "appendonly of Valkey is no"),
        (info(aof_last_write_status="err"), "cannot write to its append-only file"),
        (REFUSAL, "no permissions"),
    ],
)
async def test_a_valkey_that_does_not_write_proves_nothing(reply: Any, shown: str) -> None:
    await refused(WrittenFirst(on(Connection(info()))).covered(reply), shown)


async def test_the_answer_of_another_process_proves_nothing() -> None:
    connection = Connection(info(pending=1, size=1, buffer=1), Lost(info(pending=0)))
    await refused(WrittenFirst(on(connection)).covered(info(pending=1)), "connection to Valkey was lost")


# SyncedByUs


async def test_an_fsync_comes_after_the_question_whether_valkey_could_write() -> None:
    connection = Connection(info())
    asked_before: list[int] = []

    async def sync() -> None:
        asked_before.append(connection.asked)

    await SyncedByUs(on(connection), sync).settled()
    assert asked_before == [1]


async def test_an_fsync_after_the_loss_of_the_connection_proves_nothing() -> None:
    async def sync() -> None:
        raise AssertionError("not reached")

    connection = Connection(Lost(info()))
    synced = SyncedByUs(on(connection), sync)
    await refused(synced.covered(None), "connection to Valkey was lost")


# SyncedByValkey and SyncedUnseen


@pytest.mark.parametrize("place", range(1, 6, 2))
async def test_every_setting_that_decides_on_fsyncs_is_checked(place: int) -> None:
    synced = SyncedByValkey(on(Connection(GOOD)))
    assert synced.covered(GOOD) is None
    await synced.settled()
    await refused(
        synced.covered([*GOOD[:place], b"other", *GOOD[place + 1 :]]), f"{GOOD[place - 1].decode()} of Valkey"
    )
    await refused(synced.covered([*GOOD[: place - 1], *GOOD[place + 1 :]]), "is unknown now")
    await refused(synced.covered(REFUSAL), "no permissions")


async def test_waitaof_must_count_the_fsync() -> None:
    unseen = SyncedUnseen(on(Connection([1, 0])))
    assert unseen.covered([1, 0]) is None
    await refused(unseen.covered([0, 0]), "did not fsync it in time")
    await refused(unseen.covered(REFUSAL), "no permissions")


# Replicated

SAME, OTHER = b"role:master\r\nmaster_replid:aaa\r\n", b"role:master\r\nmaster_replid:bbb\r\n"


@pytest.mark.parametrize(
    ("count", "history", "shown"),
    [
        (2, SAME, ""),
        (3, SAME, ""),
        (1, SAME, "1 of 2 replicas have acknowledged it"),
        (2, OTHER, "another Valkey is the primary now"),
        (REFUSAL, SAME, "no permissions"),
        (2, REFUSAL, "no permissions"),
    ],
)
async def test_enough_replicas_of_the_same_primary_must_have_it(count: Any, history: Any, shown: str) -> None:
    waiting = Connection([0, count, history])
    covered = Replicated(on(Connection(SAME)), on(waiting), 2).covered(SAME)
    assert covered is not None
    if shown:
        await refused(covered, shown)
    else:
        await covered


async def test_the_primary_itself_must_have_written_it_first() -> None:
    connection = Connection(info(aof_last_write_status="err"))
    local = WrittenFirst(on(connection))
    replicated = Replicated(on(connection), on(Connection([0, 1, SAME])), 1, local)
    await refused(replicated.covered(SAME), "cannot write to its append-only file")
    await refused(replicated.covered(REFUSAL), "no permissions")
