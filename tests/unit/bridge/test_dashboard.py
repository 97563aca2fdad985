from __future__ import annotations

import json

from distributor.bridge import messages
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.outbox import Outbox
from distributor.bridge.tokens import Identity
from distributor.dispatch.ports import StoredChunk
from distributor.model.command import CommandState, Receipts
from distributor.model.lifecycle import CommandStatus


def change(status: CommandStatus, position: str = "1-0", command_id: str = "c") -> Change:
    state = CommandState(command_id, "a", "T", 50, status, 1, Receipts())
    return Change(position, state, f"{command_id} {status}", f"{command_id} result" if status.terminal else "")


def dashboard(messages: int = 256) -> Dashboard:
    return Dashboard("d", Identity("alice", frozenset(), 0.0), Outbox(messages))


def told(to: Dashboard) -> list[str]:
    return [to.text_of(entry) for entry in iter(to.outbox.take, None)]


async def test_what_is_older_than_what_was_read_is_not_told() -> None:
    to = dashboard()
    to.tell_change(change(CommandStatus.COMPLETED, position=""))
    to.ended_already("c", result_told=True)
    for status in (CommandStatus.QUEUED, CommandStatus.ASSIGNED, CommandStatus.COMPLETED):
        to.tell_change(change(status))
    assert told(to) == ["c completed", "c result"]


async def test_an_ending_without_its_result_is_told_with_it() -> None:
    to = dashboard()
    to.ended_already("c", result_told=False)
    to.tell_change(change(CommandStatus.ASSIGNED))
    to.tell_change(change(CommandStatus.ASSIGNED, command_id="other"))
    to.tell_change(change(CommandStatus.COMPLETED))
    assert told(to) == ["other assigned", "c completed", "c result"]


async def test_changes_wait_while_it_is_told_how_things_are() -> None:
    to = dashboard()
    to.hold()
    to.tell_change(change(CommandStatus.ASSIGNED))
    to.tell_change(change(CommandStatus.QUEUED), past=True)
    to.tell("snapshot")
    assert told(to) == ["c queued", "snapshot"]
    assert [held.state.status for held in to.release()] == [CommandStatus.ASSIGNED]


async def test_numbers_follow_one_another_whatever_was_cut() -> None:
    to = dashboard(8)
    to.begin_output("c")
    for offset in range(4):
        chunk = StoredChunk(1, offset, b"x", 0)
        assert to.tell_output("c", offset, offset + 1, messages.output_tail("c", chunk))
    first = to.outbox.take()
    assert first is not None
    texts = [to.text_of(first)]
    for number in range(6):
        to.tell(f'{{"answer": {number}}}')
    assert to.tell_output("c", 4, 5, messages.output_tail("c", StoredChunk(2, 4, b"\xff", 0))) is False
    texts += told(to)
    assert to.tell_output("c", 4, 5, messages.output_tail("c", StoredChunk(2, 4, b"\xff", 0)))
    documents = [json.loads(text) for text in texts + told(to)]
    assert [d["sequence"] for d in documents if "sequence" in d] == [0, 1]
    assert [(d["begin"], d["end"], d["reason"]) for d in documents if "begin" in d] == [(1, 4, "slow")]
    assert (documents[-1]["encoding"], documents[-1]["stream"]) == ("base64", "stderr")
