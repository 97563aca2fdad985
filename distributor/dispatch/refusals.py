"""Errors returned to callers, each built in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distributor.errors import (
    Aborted,
    AlreadyExists,
    DistributorError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from distributor.model.agent import AgentPresence
from distributor.model.command import CommandLimits, CommandState, InvalidField
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome
from distributor.wire.limits import MAX_PAGE, MAX_WATCHED


def draining() -> Unavailable:
    """The server is stopping: clients go to another server or reconnect."""
    return Unavailable("this server is stopping", reason="DRAINING", retry_after_seconds=0.5)


def attaching_too_fast(retry_after_seconds: float) -> Unavailable:
    """More agents attach than the server takes in a second."""
    return Unavailable(
        "too many agents attach at once (attach_rate)",
        reason="ATTACHING_TOO_FAST",
        retry_after_seconds=retry_after_seconds,
    )


def superseded() -> Aborted:
    """The agent has attached again, here or elsewhere."""
    return Aborted("a newer session of this agent is open", reason="SUPERSEDED")


def valid(check: Callable[..., None], *arguments: object) -> None:
    """Run a check of the model; raise its finding as an InvalidArgument."""
    try:
        check(*arguments)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def bounded(field: str, ids: Sequence[str]) -> None:
    """Raise InvalidArgument for more than 1,000 ids."""
    if len(ids) > MAX_WATCHED:
        raise InvalidArgument(
            f"{field} has {len(ids):,} ids, the limit is {MAX_WATCHED:,}", field=field, reason="TOO_MANY_IDS"
        )


def no_such_command(command_id: str) -> NotFound:
    """The command never existed or is no longer retained."""
    return NotFound(
        f"there is no command {command_id}, or it is no longer kept", field="command_id", reason="UNKNOWN_COMMAND"
    )


def not_ended(state: CommandState) -> FailedPrecondition:
    """The command has not ended."""
    return FailedPrecondition(
        f"command {state.command_id} has not ended: it is {state.status}",
        field="command_id",
        reason="NOT_ENDED",
        metadata={"status": state.status},
    )


def agent_offline(agent_id: str, agent: AgentPresence) -> FailedPrecondition:
    """The agent is offline and the command must not wait."""
    if not agent.known:
        return FailedPrecondition(
            f"agent '{agent_id}' has never connected, and the command must not wait for it",
            field="command.agent_id",
            reason="AGENT_OFFLINE",
        )
    return FailedPrecondition(
        f"agent '{agent_id}' is not connected, and the command must not wait for it",
        field="command.agent_id",
        reason="AGENT_OFFLINE",
        metadata={"away_since_ms": str(agent.away_since_ms)},
    )


def stopped(agent_id: str, stop_id: str) -> FailedPrecondition:
    """An emergency stop is in force for the agent."""
    return FailedPrecondition(
        f"emergency stop {stop_id} is in force for agent '{agent_id}': nothing is queued for it until resume",
        field="command.agent_id",
        reason="EMERGENCY_STOP",
        metadata={"stop_id": stop_id},
    )


def too_many_commands(new: NewCommand, limits: CommandLimits) -> ResourceExhausted:
    """The caller has as many unfinished commands as it may."""
    requester = new.requested_by
    name = (requester.on_behalf_of or requester.subject) if requester is not None else "this caller"
    return ResourceExhausted(
        f"{name} has {limits.caller_commands:,} commands that have not ended, the limit (caller_commands)",
        reason="TOO_MANY_COMMANDS",
        retry_after_seconds=5.0,
    )


def checked_page_size(page_size: int, default: int) -> int:
    """The requested page size, or the default for 0. Raises InvalidArgument outside 0 to 1,000."""
    if not 0 <= page_size <= MAX_PAGE:
        raise InvalidArgument(
            f"page_size must be 0 to {MAX_PAGE:,}, not {page_size:,}",
            field="page_size",
            reason="PAGE_SIZE_OUT_OF_RANGE",
        )
    return page_size or default


def bad_page_token() -> InvalidArgument:
    """The page token was not issued by a list call."""
    return InvalidArgument(
        "page_token was not issued by a list call",
        field="page_token",
        reason="INVALID_PAGE_TOKEN",
    )


def refusal(new: NewCommand, queued: Enqueued, limits: CommandLimits) -> DistributorError | None:
    """The error for a command that the store did not queue; None if it did."""
    match queued.outcome:
        case QueueOutcome.QUEUED | QueueOutcome.ALREADY_QUEUED:
            return None
        case QueueOutcome.KEY_TAKEN:
            return AlreadyExists(
                f"idempotency_key was used for another request, command {queued.command_id}",
                field="idempotency_key",
                reason="IDEMPOTENCY_KEY_TAKEN",
                metadata={"command_id": queued.command_id},
            )
        case QueueOutcome.AGENT_OFFLINE:
            return agent_offline(new.agent_id, queued.agent)
        case QueueOutcome.QUEUE_FULL:
            return ResourceExhausted(
                f"the queue of agent '{new.agent_id}' is full: {limits.queue_limit:,} commands wait, the queue_limit",
                field="command.agent_id",
                reason="QUEUE_FULL",
                retry_after_seconds=5.0,
            )
        case QueueOutcome.TOO_MANY_COMMANDS:
            return too_many_commands(new, limits)
        case QueueOutcome.STOPPED:
            return stopped(new.agent_id, queued.stop_id)
        case QueueOutcome.UNSUPPORTED_TYPE:
            return InvalidArgument(
                f"agent '{new.agent_id}' has no handler for commands of type '{new.type}'",
                field="command.type",
                reason="UNSUPPORTED_TYPE",
            )
        case QueueOutcome.TOO_MANY_SLOTS:
            return InvalidArgument(
                f"command.slots is {new.slots:,}, more than the capacity of agent '{new.agent_id}', "
                f"{queued.agent_capacity:,}",
                field="command.slots",
                reason="TOO_MANY_SLOTS",
            )
