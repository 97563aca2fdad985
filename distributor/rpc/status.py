"""Converts our errors to gRPC status: code, message and machine-readable details.

The details are google.rpc messages: ErrorInfo (reason, domain, metadata), BadRequest (field), RetryInfo.
"""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from distributor.errors import DistributorError
from distributor.v1.command_service_pb2 import QueueError
from distributor.wire.transport import ERROR_DETAILS_KEY, ERROR_DOMAIN

GrpcStatus = tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]


def to_grpc(error: DistributorError) -> GrpcStatus:
    """Code, message and trailing metadata for `context.abort`."""
    code = grpc.StatusCode[error.code]
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)]
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message, reason=error.reason)
        details.append(BadRequest(field_violations=[violation]))
    if error.retry_after_seconds is not None:
        details.append(RetryInfo(retry_delay=_duration(error.retry_after_seconds)))
    status = Status(code=code.value[0], message=error.message, details=[_any(detail) for detail in details])
    return code, error.message, ((ERROR_DETAILS_KEY, status.SerializeToString()),)


def fill_queue_error(message: QueueError, error: DistributorError) -> None:
    """Write the error of one command of a batch: the same content as its status would have."""
    message.code = error.code
    message.reason = error.reason
    message.field = error.field
    message.message = error.message
    message.metadata.update(error.metadata)
    if error.retry_after_seconds is not None:
        message.retry_delay.CopyFrom(_duration(error.retry_after_seconds))


def _any(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
