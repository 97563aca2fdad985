from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.conformance.hello_check import check_hello, seconds_of
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2 as pb


def opening(**fields: object) -> pb.ConnectRequest:
    usual: dict[str, object] = {"agent_id": "a", "instance_id": "i", "capacity": 1}
    return pb.ConnectRequest(hello=pb.Hello(**usual | fields))  # type: ignore[arg-type]


def listed(**fields: object) -> pb.ConnectRequest:
    usual: dict[str, object] = {"command_id": "c", "lease_id": "l"}
    return opening(unacknowledged=[pb.RunningCommand(**usual | fields)])  # type: ignore[arg-type]


def test_a_hello_that_keeps_to_the_rules_passes() -> None:
    check_hello(opening())
    check_hello(opening(types=["PING", "CONFORMANCE"], labels={"site": "berlin"}, orphan_after=Duration(seconds=1)))
    check_hello(listed(output_offset=2**53))


@pytest.mark.parametrize(
    ("message", "expected", "came"),
    [
        (pb.ConnectRequest(), "a Hello, alone in the first message", "an empty message"),
        (pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1)), "a Hello, alone", "Heartbeat 1"),
        (opening(agent_id=""), "an agent_id", "agent_id ''"),
        (opening(agent_id="a b"), "an agent_id", "agent_id 'a b'"),
        (opening(instance_id=""), "an instance_id of 1 to 128", "of 0 characters"),
        (opening(instance_id="i" * 129), "an instance_id of 1 to 128", "of 129 characters"),
        (opening(capacity=0), "a capacity of 1 to 1000", "capacity 0"),
        (opening(capacity=2**31 - 1), "a capacity of 1 to 1000", "capacity 2147483647"),
        (opening(types=["PING"]), "PING and CONFORMANCE", "types 'PING'"),
        (opening(types=["PING", "CONFORMANCE", *"x" * 99]), "at most 100 types", "101 types"),
        (opening(labels={str(n): "" for n in range(65)}), "at most 64 labels", "65 labels"),
        (opening(labels={"a": "b" * 256}), "labels of at most 256", "257 characters"),
        (opening(orphan_after=Duration(seconds=-1)), "a valid orphan_after", "-1 s"),
        (opening(orphan_after=Duration(nanos=2**31 - 1)), "a valid orphan_after", "2147483647 ns"),
        (opening(running=[pb.RunningCommand()] * 1_001), "at most 1000 commands", "1001 commands"),
        (listed(command_id=""), "a command_id of 1 to 64", "command_id ''"),
        (listed(lease_id="l" * 65), "a lease_id of 1 to 64", "lease_id 'lll"),
        (listed(output_offset=-1), "an output_offset of 0 to 2", "output_offset -1"),
    ],
)
def test_each_rule_is_checked(message: pb.ConnectRequest, expected: str, came: str) -> None:
    with pytest.raises(Unmet) as caught:
        check_hello(message)
    assert expected in caught.value.expected
    assert came in caught.value.came


def test_a_duration_may_be_invalid() -> None:
    assert seconds_of(Duration(seconds=1, nanos=500_000_000)) == 1.5
    assert seconds_of(Duration(seconds=2**63 - 1)) is None
