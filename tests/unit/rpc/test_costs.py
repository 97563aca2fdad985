"""Nothing that is done with what strangers send costs more than in proportion to its length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from distributor.rpc.agent_messages import agent_hello, report
from distributor.rpc.queue_request import CommandDefaults, new_command
from distributor.settings import ServerSettings
from distributor.v1 import agent_gateway_pb2 as agent_pb
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.wire_agent import hello

DEFAULTS: Final = CommandDefaults(ServerSettings())
UNKNOWN: Final = "00000000-0000-7000-8000-000000000000"


def request(params: Struct) -> pb.QueueCommandRequest:
    command = command_pb2.Command(agent_id="a", type="PING", params=params)
    return pb.QueueCommandRequest(command=command, idempotency_key="k")


def empty_values(count: int) -> Value:
    return Value(list_value=ListValue.FromString(b"\x0a\x00" * count))


def queueing(params: Callable[[int], Struct]) -> Callable[[int], Callable[[], object]]:
    def of(count: int) -> Callable[[], object]:
        message = request(params(count))

        def convert() -> object:
            message.command.ClearField("command_id")
            return new_command(message, "id", DEFAULTS)

        return convert

    return of


def reporting(data: Callable[[int], Value]) -> Callable[[int], Callable[[], object]]:
    def of(count: int) -> Callable[[], object]:
        message = agent_pb.ConnectRequest(results=[agent_pb.Result(command_id="c", data=data(count))])
        return lambda: report(message, "a")

    return of


def attaching(count: int) -> Callable[[], object]:
    running = [agent_pb.RunningCommand(command_id=UNKNOWN, lease_id="l")] * (count // 20)
    message = hello(running=running)
    return lambda: agent_hello(message)


FOREIGN: Final[dict[str, tuple[Callable[[int], Callable[[], object]], int]]] = {
    "params of many values": (queueing(lambda n: Struct(fields={"a": empty_values(n)})), 10_000),
    "params of many names": (queueing(lambda n: Struct(fields={f"{i:x}": Value() for i in range(n)})), 5_000),
    "params of quoted text": (queueing(lambda n: Struct(fields={"a": Value(string_value="'" * n)})), 100_000),
    "params of many words": (
        queueing(
            lambda n: Struct(fields={"argv": Value(list_value=ListValue(values=[Value(string_value="a'b")] * n))})
        ),
        5_000,
    ),
    "a result of many values": (reporting(empty_values), 10_000),
    "a result of text to escape": (reporting(lambda n: Value(string_value="\x01" * n)), 100_000),
    "a Hello that lists much": (attaching, 10_000),
}


def cost(work: Callable[[], Any]) -> float:
    """CPU seconds, the least of some tries."""

    def once() -> float:
        begun = time.thread_time()
        work()
        return time.thread_time() - begun

    return min(once() for _ in range(7))


@pytest.mark.parametrize("what", FOREIGN)
def test_twice_as_much_costs_no_more_than_about_twice(what: str) -> None:
    of, count = FOREIGN[what]
    # Half a millisecond is too little to tell a square from a line.
    assert cost(of(2 * count)) <= 3 * cost(of(count)) + 0.000_5
