"""Our errors as gRPC status: every kind of error, with details that programs can read."""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc_testing
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from distributor import errors
from distributor.rpc.status import to_grpc
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceServicer
from distributor.wire.transport import ERROR_DETAILS_KEY
from tests.support.received_errors import told

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DistributorError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_the_status_that_it_names(kind: type[errors.DistributorError]) -> None:
    code, message, metadata = to_grpc(kind("what was wrong", reason="A_REASON"))
    assert code.name == kind.code
    assert told(code, message, metadata)[1:] == ("", "A_REASON", "what was wrong", None)


def test_all_details() -> None:
    error = errors.InvalidArgument(
        "priority must be 0 to 100",
        reason="PRIORITY_OUT_OF_RANGE",
        field="command.priority",
        metadata={"limit": "100"},
        retry_after_seconds=1.5,
    )
    code, message, ((key, value),) = to_grpc(error)
    assert (code, message, key) == (grpc.StatusCode.INVALID_ARGUMENT, "priority must be 0 to 100", ERROR_DETAILS_KEY)
    status = Status.FromString(value)
    assert (status.code, status.message) == (3, "priority must be 0 to 100")
    info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for packed, detail in zip(status.details, (info, request, retry), strict=True):
        assert packed.Unpack(detail)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "PRIORITY_OUT_OF_RANGE",
        "command-distributor",
        {"limit": "100"},
    )
    (violation,) = request.field_violations
    assert (violation.field, violation.reason, violation.description) == ("command.priority", info.reason, message)
    assert retry.retry_delay.ToMilliseconds() == 1_500


class Refusing(CommandServiceServicer):
    """A blocking servicer that refuses with one of our errors."""

    def GetCommand(self, request: pb.GetCommandRequest, context: Any) -> pb.GetCommandResponse:
        code, message, metadata = to_grpc(errors.NotFound("no such command", reason="UNKNOWN_COMMAND"))
        context.set_trailing_metadata(metadata)
        context.set_code(code)
        context.set_details(message)
        return pb.GetCommandResponse()


def test_the_details_are_those_that_grpcs_own_helper_reads() -> None:
    """Against gRPC's test server, which knows blocking servicers only, as many of our callers are."""
    service = pb.DESCRIPTOR.services_by_name["CommandService"]
    servicer = Refusing()  # type: ignore[abstract]  # what it has not, gRPC refuses as unimplemented
    server = grpc_testing.server_from_dictionary({service: servicer}, grpc_testing.strict_real_time())
    method = service.methods_by_name["GetCommand"]
    call = server.invoke_unary_unary(method, (), pb.GetCommandRequest(command_id="x"), None)
    _, trailing, code, details = call.termination()

    class Ended:
        """What a blocking stub raises, as far as the helper asks."""

        @staticmethod
        def trailing_metadata() -> Any:
            return trailing

        @staticmethod
        def code() -> grpc.StatusCode:
            return grpc.StatusCode(code)

        @staticmethod
        def details() -> str:
            return str(details)

    status = rpc_status.from_call(cast(grpc.Call, Ended()))
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message, info.reason) == (5, "no such command", "UNKNOWN_COMMAND")
