"""Events of this replica's own changes, derived from a request and its reply.

The functions write the same events to the stream for other replicas. That they do not return them, and nobody parses
them here, saves a quarter of the cost of a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from distributor.model.command import CommandState, Reason, Receipts
from distributor.model.delivery import ClaimRequest, Completion
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import NewCommand
from distributor.store.event_entries import NO_REASON
from distributor.store.rows import CANCEL_STAGES, requester_of

_NO_LONGER_A_REASON: Final = {"reason": NO_REASON}
_NOTHING: Final[Mapping[str, Any]] = {}


def queued_events(commands: Sequence[NewCommand], reply: Any) -> list[CommandChanged]:
    """The event of each command that `enqueue` has stored."""
    receipts = Receipts(reply[0])
    return [
        CommandChanged(
            EventKind.QUEUED,
            new.command_id,
            new.agent_id,
            1,
            CommandStatus.QUEUED,
            0,
            NO_REASON,
            CommandState(
                new.command_id,
                new.agent_id,
                new.type,
                new.priority,
                CommandStatus.QUEUED,
                0,
                receipts,
                0,
                NO_REASON,
                new.params_summary,
                1,
                requested_by=new.requested_by,
            ),
        )
        for place, new in enumerate(commands, start=1)
        if reply[place][0] == b"queued"
    ]


def assigned_events(requests: Sequence[ClaimRequest], reply: Any) -> list[CommandChanged]:
    """The event of each command that `claim` has assigned."""
    receipts = {"assigned_ms": reply[0]}
    return [
        CommandChanged(
            EventKind.ASSIGNED,
            one[i].decode(),
            request.agent_id,
            int(one[i + 2]),
            CommandStatus.ASSIGNED,
            one[i + 1],
            NO_REASON,
            None,
            receipts,
            # Another attempt begins without the reason why the one before has failed.
            _NOTHING if one[i + 1] == 1 else _NO_LONGER_A_REASON,
        )
        for place, request in enumerate(requests, start=1)
        for one in (reply[place],)
        for i in range(4, len(one), 4)
    ]


def finished_events(completions: Sequence[Completion], reply: Any) -> list[CommandChanged]:
    """The event of each command that `finish` has ended."""
    return [
        _finished(completion, reply[0], reply[place])
        for place, completion in enumerate(completions, start=1)
        if type(reply[place]) is list
    ]


def _finished(completion: Completion, now_ms: int, row: Sequence[bytes]) -> CommandChanged:
    _, revision, command_type, priority, attempt, queued_us = row[:6]
    passed_ms, (cancel_ms, params_summary, cancel_stage, requested_by, *own) = row[6:10], row[10:]
    command_id, agent_id = completion.progress.command_id, completion.progress.agent_id
    reason = completion.reason if completion.reason.code else NO_REASON
    if own:
        # That of the cancel that ended it.
        reason = Reason(own[0].decode(), own[1].decode())
    times_ms = [int(queued_us) // 1000, *[int(one) if one else 0 for one in passed_ms], now_ms]
    state = CommandState(
        command_id,
        agent_id,
        command_type.decode(),
        int(priority),
        completion.status,
        int(attempt),
        Receipts(*times_ms),
        int(cancel_ms or 0),
        reason,
        params_summary.decode(),
        int(revision),
        cancel_stage=CANCEL_STAGES.get(cancel_stage.decode()) if cancel_stage else None,
        requested_by=requester_of(requested_by.decode()) if requested_by else None,
    )
    return CommandChanged(
        EventKind.FINISHED, command_id, agent_id, state.revision, state.status, state.attempt, reason, state
    )
