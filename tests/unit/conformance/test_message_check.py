from __future__ import annotations

import math

import pytest
from google.protobuf.struct_pb2 import Value

from distributor.conformance.message_check import check_messages
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2

OUT = command_pb2.OUTPUT_STREAM_STDOUT
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED


def output(offset: int, data: bytes = b"abc", stream: command_pb2.OutputStream.ValueType = OUT) -> pb.ConnectRequest:
    return pb.ConnectRequest(output=[pb.Output(command_id="a", lease_id="l", stream=stream, offset=offset, data=data)])


def beat(sequence: int) -> pb.ConnectRequest:
    return pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=sequence))


def result(**fields: object) -> pb.ConnectRequest:
    usual: dict[str, object] = {"command_id": "a", "status": COMPLETED}
    return pb.ConnectRequest(results=[pb.Result(**usual | fields)])  # type: ignore[arg-type]


GOODBYE = pb.ConnectRequest(goodbye=pb.Goodbye())


def test_messages_that_keep_to_the_rules_pass() -> None:
    hello = pb.Hello(running=[pb.RunningCommand(lease_id="l", output_offset=5)])
    check_messages(hello, [beat(1), output(5), output(6), output(9), beat(2), result(), GOODBYE])


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([GOODBYE, beat(1)], "nothing after Goodbye"),
        ([pb.ConnectRequest(hello=pb.Hello())], "one Hello"),
        ([beat(0)], "heartbeat 1"),
        ([beat(1), beat(3)], "heartbeat 2"),
        ([pb.ConnectRequest(received=[pb.Received()] * 21)], "at most 20 received"),
        ([output(0), output(4)], "output from 3 or before"),
        ([output(-1)], "output from 0 or before"),
        ([output(1)], "output from 0 or before"),
        ([output(0, b"")], "1 to 65536 bytes"),
        ([output(0, b"a" * 65_537)], "1 to 65536 bytes"),
        ([output(0, stream=command_pb2.OUTPUT_STREAM_UNSPECIFIED)], "stdout or stderr"),
        ([result(status=command_pb2.COMMAND_STATUS_ASSIGNED)], "a terminal status"),
        ([result(reason=command_pb2.Reason(code="Not-Snake"))], "lower_snake_case"),
        ([result(reason=command_pb2.Reason(code="a", message="m" * 1_025))], "at most 1024 characters"),
        ([result(output_bytes=-1)], "0 to 2"),
        ([result(output_bytes=2**53 + 1)], "0 to 2"),
        ([result(data=Value(number_value=math.nan))], "data is JSON"),
        ([result(survivors=[pb.SurvivingProcess()] * 21)], "at most 20 survivors"),
        ([result(lease_id="l" * 65)], "a lease_id of at most 64"),
        ([pb.ConnectRequest(gzip=b"a")], "no gzip within gzip"),
        ([pb.ConnectRequest(refused=[pb.Refused()])], "a known code"),
        ([pb.ConnectRequest(cancel_reports=[pb.CancelReport()])], "a known finding"),
        ([pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1, credit=-1))], "0 or more"),
    ],
)
def test_each_rule_is_checked(messages: list[pb.ConnectRequest], expected: str) -> None:
    with pytest.raises(Unmet, match=expected):
        check_messages(pb.Hello(), messages)
