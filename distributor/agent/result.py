"""Builds the Result message from the outcome of a handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.agent.actions import StopCause
from distributor.agent.command_context import CommandFailed, Completed
from distributor.agent.record import RecordedCommand
from distributor.model.command import MAX_REASON_MESSAGE
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.json_values import NotJson, fill_value, json_text

_STOPPED: Final = {
    StopCause.CANCELLED: (command_pb2.COMMAND_STATUS_CANCELLED, "cancelled", "stopped as asked"),
    StopCause.HALTED: (command_pb2.COMMAND_STATUS_CANCELLED, "emergency_stop", "an emergency stop ended it"),
    StopCause.AGENT_STOPPED: (command_pb2.COMMAND_STATUS_CANCELLED, "agent_stopped", "the agent was stopped"),
    StopCause.TIME_LIMIT: (command_pb2.COMMAND_STATUS_TIMEOUT, "time_limit", "it ran longer than its time limit"),
    StopCause.IDLE_LIMIT: (command_pb2.COMMAND_STATUS_TIMEOUT, "idle_limit", "it was silent for its idle limit"),
    StopCause.ORPHANED: (
        command_pb2.COMMAND_STATUS_TIMEOUT,
        "orphaned",
        "its agent stopped it after reaching no server for its orphan_after",
    ),
    # Never sent: the server gave the command up.
    StopCause.DISOWNED: (command_pb2.COMMAND_STATUS_CANCELLED, "disowned", "the server gave it up"),
}


def completed(held: RecordedCommand, value: object, max_bytes: int) -> gateway.Result:
    """The result of a handler that returned `value`; failed if it is not JSON or exceeds `max_bytes`."""
    outcome = value if isinstance(value, Completed) else Completed(value)
    result = _result(held, command_pb2.COMMAND_STATUS_COMPLETED)
    _set_exit_code(result, outcome.exit_code)
    _set_data(result, outcome.data, max_bytes)
    return result


def failed(held: RecordedCommand, error: BaseException, max_bytes: int) -> gateway.Result:
    """The result of a handler that raised `error`, with its reason if CommandFailed, otherwise its type and text.

    Transient also if the command says how often to run after failures with this reason.

    Raises if reading `error` does, such as TypeError for an `exit_code` that is not an int.
    """
    result = _result(held, command_pb2.COMMAND_STATUS_FAILED)
    if isinstance(error, CommandFailed):
        _set_reason(result, error.code, error.message)
        _set_exit_code(result, error.exit_code)
        _set_data(result, error.data, max_bytes)
        result.transient = error.transient
    else:
        _set_reason(result, "handler_error", _described(error))
    if result.reason.code in held.rerun_reasons:
        result.transient = True
    return result


def unreportable(held: RecordedCommand, error: BaseException, fault: BaseException) -> gateway.Result:
    """The result of a handler that raised `error`, which `failed` could not read because of `fault`."""
    result = _result(held, command_pb2.COMMAND_STATUS_FAILED)
    _set_reason(
        result,
        "handler_error",
        f"the handler raised {type(error).__name__}, which cannot be reported: {_described(fault)}",
    )
    return result


def not_started(held: RecordedCommand, error: BaseException) -> gateway.Result:
    """The result of a command whose handler the agent could not call, such as for lack of threads; transient."""
    result = _result(held, command_pb2.COMMAND_STATUS_FAILED)
    _set_reason(result, "not_started", f"the agent could not call the handler: {_described(error)}")
    result.transient = True
    return result


def stopped(held: RecordedCommand, cause: StopCause) -> gateway.Result:
    """The result of a handler that ended after a request to stop."""
    status, code, message = _STOPPED[cause]
    result = _result(held, status)
    _set_reason(result, code, message)
    return result


def would_not_stop(
    held: RecordedCommand, cause: StopCause, seconds: float, survivors: Sequence[gateway.SurvivingProcess]
) -> gateway.Result:
    """The result of a handler that did not stop within `seconds` of a request, with what still runs.

    The server adds the names of the survivors to the reason.
    """
    result = _result(held, command_pb2.COMMAND_STATUS_FAILED)
    _set_reason(
        result,
        "would_not_stop",
        f"the handler did not stop within {seconds:g} s of being asked to ({cause.value}); it may still be running",
    )
    result.survivors.extend(survivors)
    return result


def rejected(held: RecordedCommand, why: str) -> gateway.Result:
    """The replacement of a result that ends every stream on which it is sent."""
    result = _result(held, command_pb2.COMMAND_STATUS_FAILED)
    _set_reason(result, "result_rejected", f"the server rejected the result: {why}")
    return result


def _result(held: RecordedCommand, status: command_pb2.CommandStatus.ValueType) -> gateway.Result:
    return gateway.Result(
        command_id=held.command_id, lease_id=held.lease_id, status=status, output_bytes=held.output_bytes
    )


def _described(error: BaseException) -> str:
    """The type of an error, and its text if it has one."""
    text = _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  # the author's code may raise anything
        return "(its message cannot be read)"


def _set_reason(result: gateway.Result, code: str, message: str) -> None:
    result.reason.code = code
    result.reason.message = message[:MAX_REASON_MESSAGE].encode("utf-8", "replace").decode()


def _set_exit_code(result: gateway.Result, exit_code: int | None) -> None:
    if exit_code is not None:
        result.exit_code = exit_code


def _set_data(result: gateway.Result, data: object, max_bytes: int) -> None:
    if data is None:
        return
    try:
        size = len(json_text(data, "value").encode())
        if size <= max_bytes:
            fill_value(result.data, data, "value")
            return
        code, message = "result_too_large", f"the handler's value is {size:,} bytes of JSON, the limit is {max_bytes:,}"
    except NotJson as error:
        code, message = "invalid_result", f"the handler's {error}"
    except RecursionError:
        code, message = "invalid_result", "the handler's value is nested too deeply"
    result.ClearField("data")
    result.status = command_pb2.COMMAND_STATUS_FAILED
    _set_reason(result, code, message)
