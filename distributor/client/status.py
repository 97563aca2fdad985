"""Translates gRPC failures to errors of `distributor.errors`: the reverse of `rpc.status`.

The status details (ErrorInfo, BadRequest, RetryInfo) become reason, metadata, field and retry_after_seconds. A failure
without details comes from the transport or another kind of server; then only its code counts.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from distributor import errors
from distributor.v1 import command_service_pb2
from distributor.wire.connect_faults import cause_of
from distributor.wire.proxies import proxy_note
from distributor.wire.status_details import details_of, retry_after_of, unpacked
from distributor.wire.times import retry_seconds
from distributor.wire.transport import ERROR_DOMAIN

_BY_CODE: Final[dict[str, type[errors.DistributorError]]] = {
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "OUT_OF_RANGE": errors.InvalidArgument,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "UNIMPLEMENTED": errors.FailedPrecondition,
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "ABORTED": errors.Aborted,
    "UNAVAILABLE": errors.Unavailable,
    "DEADLINE_EXCEEDED": errors.Unavailable,
    # The client ignores errors of calls that it cancels, so the server cancelled this one: it is going away.
    "CANCELLED": errors.Unavailable,
}


def error_of(failure: grpc.RpcError, target: str) -> errors.DistributorError:
    """The error for `failure` of a call to the server at `target`.

    Accepts failures of grpc and grpc.aio: both have code, details and trailing metadata.
    """
    assert isinstance(failure, grpc.Call | grpc.aio.AioRpcError)
    code = failure.code().name
    text = " ".join((failure.details() or "").split())
    details = details_of(failure.trailing_metadata())
    info = unpacked(details, error_details_pb2.ErrorInfo())
    if not info.reason:
        text = _transport_text(code, text, target)
    return _BY_CODE.get(code, errors.DistributorError)(
        text or code,
        reason=info.reason if info.domain == ERROR_DOMAIN else code,
        field=_field(details),
        metadata=dict(info.metadata),
        retry_after_seconds=retry_after_of(details),
    )


def error_of_outcome(wire: command_service_pb2.QueueError) -> errors.DistributorError:
    """The error for one command of a batch."""
    kind = _BY_CODE.get(wire.code, errors.DistributorError)
    return kind(
        wire.message or wire.code,
        reason=wire.reason,
        field=wire.field,
        metadata=dict(wire.metadata),
        retry_after_seconds=retry_seconds(wire.retry_delay) if wire.HasField("retry_delay") else None,
    )


def deadline_exceeded(target: str) -> errors.Unavailable:
    """The error for a call that the server at `target` did not answer in time."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED.name
    return errors.Unavailable(_transport_text(code, "", target), reason=code)


def concerns_each(error: errors.DistributorError) -> bool:
    """Whether the error of a batch is that of each command: not caused by the content of one, or by their number."""
    match error:
        case errors.Unavailable() | errors.Unauthenticated() | errors.PermissionDenied():
            return True
        case errors.ResourceExhausted():
            # Without a reason of ours, the batch exceeds a limit on messages.
            return error.reason != error.code
        case _:
            return False


def _field(details: status_pb2.Status) -> str:
    violations = unpacked(details, error_details_pb2.BadRequest()).field_violations
    return violations[0].field if violations else ""


def _transport_text(code: str, text: str, target: str) -> str:
    match code:
        case "UNAVAILABLE" | "CANCELLED":
            return f"the server at {target} cannot be reached: {cause_of(text) or 'it went away'}{proxy_note(target)}"
        case "DEADLINE_EXCEEDED":
            return f"the server at {target} did not answer in time{proxy_note(target)}"
        case "UNIMPLEMENTED":
            return f"the server at {target} does not know this call; is it older than this client?"
        case _:
            return text
