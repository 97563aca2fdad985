"""The error that a failed call gives its caller."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from distributor.wire.transport import ERROR_DETAILS_KEY


class ToldError(NamedTuple):
    """The parts of a gRPC status; empty where it has none."""

    code: str
    field: str
    reason: str
    text: str
    retry_after_seconds: float | None = None


def told(code: grpc.StatusCode, text: str, trailing: Any) -> ToldError:
    """From the parts of a status."""
    field, reason, retry_after = "", "", None
    for key, value in trailing or ():
        if key == ERROR_DETAILS_KEY:
            for detail in Status.FromString(value).details:
                if detail.Is(BadRequest.DESCRIPTOR):
                    violations = BadRequest.FromString(detail.value).field_violations
                    (field,) = (violation.field for violation in violations)
                elif detail.Is(ErrorInfo.DESCRIPTOR):
                    info = ErrorInfo.FromString(detail.value)
                    assert info.domain == "command-distributor"
                    reason = info.reason
                elif detail.Is(RetryInfo.DESCRIPTOR):
                    retry_after = RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds() / 1000
    return ToldError(code.name, field, reason, text, retry_after)


async def error_of(call: Awaitable[Any]) -> ToldError:
    """What a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    return told(error.code(), error.details() or "", error.trailing_metadata())


async def error_of_stream(call: Any) -> ToldError:
    """What a server stream ends with."""

    async def exhaust() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    return await error_of(exhaust())
