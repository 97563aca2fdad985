"""gRPC failures as errors of the tree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from distributor import errors
from distributor.client.status import error_of, error_of_outcome
from distributor.v1 import command_service_pb2
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.transport import ERROR_DOMAIN

TARGET = "host:1"


def failure(code: grpc.StatusCode, text: str = "", details: bytes | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata() if details is None else grpc.aio.Metadata(("grpc-status-details-bin", details))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, text)


def packed(*messages: Any) -> bytes:
    status = status_pb2.Status(code=1, message="differs")
    for message in messages:
        holder = AnyMessage()
        holder.Pack(message)
        status.details.append(holder)
    return bytes(status.SerializeToString())


INFO = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain=ERROR_DOMAIN, metadata={"limit": "1000"})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.OUT_OF_RANGE, errors.InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (grpc.StatusCode.UNIMPLEMENTED, errors.FailedPrecondition),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.ABORTED, errors.Aborted),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unavailable),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.INTERNAL, errors.DistributorError),
        (grpc.StatusCode.UNKNOWN, errors.DistributorError),
        (grpc.StatusCode.DATA_LOSS, errors.DistributorError),
    ],
)
def test_every_code_has_an_error_without_any_details(
    code: grpc.StatusCode, kind: type[errors.DistributorError]
) -> None:
    error = error_of(failure(code), TARGET)

    assert type(error) is kind
    assert error.reason == code.name
    assert str(error)


def test_details_fill_the_error() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="command.params", description="too large")
    details = packed(
        INFO,
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
    )

    error = error_of(failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", details), TARGET)

    assert isinstance(error, errors.ResourceExhausted)
    assert str(error) == "the queue is full"
    assert (error.reason, error.field, error.metadata) == ("QUEUE_FULL", "command.params", {"limit": "1000"})
    assert error.retry_after_seconds == 1.5


@pytest.mark.parametrize("details", [b"\xff\xff not a message", b""])
def test_details_that_cannot_be_read_leave_the_code(details: bytes) -> None:
    error = error_of(failure(grpc.StatusCode.NOT_FOUND, "no such thing", details), TARGET)

    assert (type(error), str(error), error.reason) == (errors.NotFound, "no such thing", "NOT_FOUND")


def test_reasons_of_other_domains_are_not_taken_for_ours() -> None:
    info = error_details_pb2.ErrorInfo(reason="QUOTA", domain="googleapis.com")

    assert error_of(failure(grpc.StatusCode.UNAVAILABLE, "x", packed(info)), TARGET).reason == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("code", "text", "shown"),
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.1.1.1:1: Failed to connect: refused (111)",
            "the server at host:1 cannot be reached: refused (111)",
        ),
        (
            grpc.StatusCode.UNAVAILABLE,
            "errors resolving host:1: [field:hostname lookup error:address lookup failed for host:1: Domain not found]",
            "the server at host:1 cannot be reached: Domain not found",
        ),
        (grpc.StatusCode.UNAVAILABLE, "connect: to [::1]", "the server at host:1 cannot be reached: to [::1]"),
        (grpc.StatusCode.CANCELLED, "", "the server at host:1 cannot be reached: it went away"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "the server at host:1 did not answer in time"),
        (grpc.StatusCode.INTERNAL, "two\nlines", "two lines"),
        (grpc.StatusCode.UNKNOWN, "", "UNKNOWN"),
    ],
)
def test_failures_of_the_transport_name_the_server(code: grpc.StatusCode, text: str, shown: str) -> None:
    assert str(error_of(failure(code, text), TARGET)) == shown


def test_the_server_s_own_words_are_kept() -> None:
    error = error_of(failure(grpc.StatusCode.UNAVAILABLE, "Valkey is away", packed(INFO)), TARGET)

    assert str(error) == "Valkey is away"


def test_an_outcome_of_many_is_the_same_error() -> None:
    wire = command_service_pb2.QueueError(
        code="INVALID_ARGUMENT", reason="PRIORITY_OUT_OF_RANGE", field="command.priority", message="no"
    )

    error = error_of_outcome(wire)

    assert isinstance(error, errors.InvalidArgument)
    assert (error.reason, error.field, str(error)) == ("PRIORITY_OUT_OF_RANGE", "command.priority", "no")
    assert type(error_of_outcome(command_service_pb2.QueueError(code="A_NEW_CODE"))) is errors.DistributorError


def test_failures_of_blocking_calls_are_translated_too() -> None:
    """grpc.RpcError of a blocking stub is another class than AioRpcError, with the same questions to ask."""
    service = command_service_pb2.DESCRIPTOR.services_by_name["CommandService"]
    channel = grpc_testing.channel([service], grpc_testing.strict_real_time())
    stub = CommandServiceStub(channel)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(stub.GetCommand, command_service_pb2.GetCommandRequest(command_id="c1"))
        _, request, rpc = channel.take_unary_unary(service.methods_by_name["GetCommand"])
        rpc.terminate(None, (("grpc-status-details-bin", packed(INFO)),), grpc.StatusCode.NOT_FOUND, "no command c1")
        raised = call.exception()

    assert request.command_id == "c1"
    assert isinstance(raised, grpc.RpcError)
    error = error_of(raised, TARGET)
    assert (type(error), str(error), error.metadata) == (errors.NotFound, "no command c1", {"limit": "1000"})
