from __future__ import annotations

import json

import pytest

from distributor.bridge import messages
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.model.command import CommandState, Receipts
from distributor.model.delivery import OutputChunk, OutputStream
from distributor.model.lifecycle import CommandStatus
from tests.support.dashboard_credentials import credential

PIECE = OutputChunk(OutputStream.STDERR, 4, b"\xff")


REVISIONS = {CommandStatus.QUEUED: 1, CommandStatus.ASSIGNED: 2, CommandStatus.COMPLETED: 3}


def change(status: CommandStatus, position: str = "1-0", command_id: str = "c") -> Change:
    """One of an event, or with `position` empty one that was read while the stream ended at 9-0."""
    state = CommandState(command_id, "a", "T", 50, status, 1, Receipts(), revision=REVISIONS[status])
    result = f"{command_id} result" if status.terminal else ""
    return Change(position, state, f"{command_id} {status}", result, position, read_until="" if position else "9-0")


def dashboard(messages: int = 256) -> Dashboard:
    return Dashboard("d", credential(), DashboardOutbox(messages))


def told(to: Dashboard) -> list[str]:
    return [to.text_of(entry) for entry in iter(to.outbox.take, None)]


async def test_what_is_older_than_what_was_read_is_not_told() -> None:
    to = dashboard()
    assert to.takes(change(CommandStatus.ASSIGNED, position=""))
    taken = [to.takes(change(status)) for status in REVISIONS]
    assert taken == [False, False, True]


async def test_a_state_read_before_is_not_shown_after_a_newer_one() -> None:
    """Such as that of a running command whose agent went away meanwhile, as another dashboard was sent it."""
    to = dashboard()
    assert to.takes(change(CommandStatus.COMPLETED, position=""))
    assert not to.takes(change(CommandStatus.ASSIGNED, position=""))
    assert to.takes(change(CommandStatus.COMPLETED, position="")), "it may have subscribed again"


async def test_changes_wait_while_it_is_told_how_things_are() -> None:
    to = dashboard()
    to.hold()
    assert not to.takes(change(CommandStatus.ASSIGNED))
    to.send_change(change(CommandStatus.QUEUED))
    to.send("snapshot")
    assert told(to) == ["c queued", "snapshot"]
    assert [held.state.status for held in to.release()] == [CommandStatus.ASSIGNED]


async def test_numbers_follow_one_another_whatever_was_cut() -> None:
    to = dashboard(8)
    to.begin_output("c")
    for offset in range(4):
        chunk = OutputChunk(OutputStream.STDOUT, offset, b"x", 0)
        assert to.send_output("c", offset, offset + 1, messages.output_tail("c", chunk))
    first = to.outbox.take()
    assert first is not None
    texts = [to.text_of(first)]
    for number in range(6):
        to.send(f'{{"answer": {number}}}')
    assert to.send_output("c", 4, 5, messages.output_tail("c", PIECE)) is False
    texts += told(to)
    assert to.send_output("c", 4, 5, messages.output_tail("c", PIECE))
    documents = [json.loads(text) for text in texts + told(to)]
    assert [d["sequence"] for d in documents if "sequence" in d] == [0, 1]
    assert [(d["beginOffset"], d["endOffset"], d["reason"]) for d in documents if "beginOffset" in d] == [
        (1, 4, "slow")
    ]
    assert (documents[-1]["encoding"], documents[-1]["stream"]) == ("base64", "stderr")


def tell_pieces(to: Dashboard, count: int) -> None:
    for offset in range(count):
        tail = messages.output_tail("c", OutputChunk(OutputStream.STDOUT, offset, b"x", 0))
        assert to.send_output("c", offset, offset + 1, tail)


async def test_numbers_go_on_to_the_last_piece_though_the_ending_is_queued() -> None:
    to = dashboard()
    to.begin_output("c")
    tell_pieces(to, 4)
    texts = [to.text_of(await to.next_entry()) for _ in range(2)]
    to.end_output("c")
    to.send_change(change(CommandStatus.COMPLETED))
    *pieces, status, result = texts + told(to)
    assert [json.loads(text)["sequence"] for text in pieces] == [0, 1, 2, 3]
    assert (status, result) == ("c completed", "c result")
    assert not to._sequences
    assert not to._output_ended


async def test_numbers_are_let_go_though_the_last_pieces_were_cut() -> None:
    to = dashboard(8)
    to.begin_output("c")
    tell_pieces(to, 4)
    to.end_output("c")
    for number in range(6):
        to.send(str(number))
    assert '"gap"' in told(to)[0]
    assert not to._sequences


async def test_output_that_is_taken_back_makes_room() -> None:
    """Nothing is sent that would tell of room where the queue is empty at once."""
    to, roomy = dashboard(16), []
    to.on_room = lambda: roomy.append(True)
    to.begin_output("c")
    tell_pieces(to, 12)
    assert not to.has_room_for_output()
    assert to.full_since is not None
    to.begin_output("c")
    assert roomy
    assert to.has_room_for_output()
    assert to.full_since is None


async def test_it_is_crowded_from_full_to_half_empty() -> None:
    to = dashboard(16)
    for number in range(12):
        assert to.full_since is None
        to.send(str(number))
    since = to.full_since
    for _ in range(4):
        assert to.full_since == since is not None
        await to.next_entry()
    assert to.full_since is None


async def test_changes_beyond_what_the_queue_holds_do_not_wait_but_endings_do() -> None:
    to = dashboard(16)
    to.hold()
    for number in range(40):
        assert not to.takes(change(CommandStatus.ASSIGNED, command_id=f"c{number}"))
    for number in range(20):
        assert not to.takes(change(CommandStatus.COMPLETED, command_id=f"c{number}"))
    assert not to.resync_needed.is_set()
    held = to.release()
    assert [one.state.status.terminal for one in held] == [False] * 16 + [True] * 20
    assert to.resync_needed.is_set()
    assert to.resync_reason == "slow"


@pytest.mark.parametrize("size", [1, 300_000])
async def test_far_more_endings_than_can_wait_are_an_overrun(size: int) -> None:
    to = dashboard(16)
    ending = change(CommandStatus.COMPLETED)._replace(result="x" * size)
    to.hold()
    for _ in range(64 if size == 1 else 13):
        to.takes(ending)
    assert not to.overrun.is_set()
    to.takes(ending)
    assert to.overrun.is_set()
