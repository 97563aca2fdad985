"""gRPC errors with the status details that a server of this protocol sends."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Never

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass
class Refusal:
    """An error that a call is answered with, with all the details a server may give."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    field: str = ""
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    retry_after_ms: int = 0


async def abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> Never:
    """End a call with `refusal`."""
    details: list[Any] = []
    if refusal.reason:
        domain = "command-distributor"
        details.append(error_details_pb2.ErrorInfo(reason=refusal.reason, domain=domain, metadata=refusal.metadata))
    if refusal.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=refusal.field, description=refusal.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if refusal.retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(refusal.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for holder, detail in zip(packed, details, strict=True):
        holder.Pack(detail)
    status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message, details=packed)
    await context.abort_with_status(rpc_status.to_status(status))
