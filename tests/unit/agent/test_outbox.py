from __future__ import annotations

from typing import Any

from distributor.agent.outbox import MAX_OUTPUT_BYTES, MAX_PARTS, Outbox
from distributor.agent.record import CommandRecord
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

CHUNK = 65_536
LIMIT = 1_000_000


def start(record: CommandRecord, outbox: Outbox, command_id: str) -> None:
    record.start(command_id, "lease")
    outbox.received.append(gateway.Received(command_id=command_id))
    outbox.started.append(gateway.Started(command_id=command_id))


def finish(record: CommandRecord, outbox: Outbox, command_id: str, **fields: Any) -> None:
    record.finish(gateway.Result(command_id=command_id, **fields))
    outbox.add_result(command_id)


def write(record: CommandRecord, outbox: Outbox, command_id: str, data: bytes) -> None:
    held = record.get(command_id)
    assert held
    held.window.append(command_pb2.OUTPUT_STREAM_STDOUT, data)
    outbox.add_output(command_id)


def everything(outbox: Outbox) -> list[gateway.ConnectRequest]:
    return list(iter(lambda: outbox.take(CHUNK, LIMIT), None))


def test_nothing_waits() -> None:
    assert Outbox(CommandRecord()).take(CHUNK, LIMIT) is None


def test_what_is_ready_together_travels_together() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    outbox.heartbeat = gateway.Heartbeat(sequence=1)
    outbox.cancel_reports.append(gateway.CancelReport(command_id="x"))
    outbox.refused.append(gateway.Refused(command_id="y"))
    start(record, outbox, "a")
    write(record, outbox, "a", b"hello")
    finish(record, outbox, "a")
    (message,) = everything(outbox)
    assert message.HasField("heartbeat")
    kinds = (message.cancel_reports, message.refused, message.received, message.started, message.output)
    assert [len(kind) for kind in (*kinds, message.results)] == [1, 1, 1, 1, 1, 1]


def test_no_message_has_more_than_twenty_of_a_kind_and_none_overtakes_its_own_receipt() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    for number in range(50):
        start(record, outbox, str(number))
        finish(record, outbox, str(number))
    messages = everything(outbox)
    received: set[str] = set()
    for message in messages:
        assert max(len(message.received), len(message.started), len(message.results)) <= MAX_PARTS
        received |= {part.command_id for part in message.received}
        assert {part.command_id for part in message.started} <= received
        assert {part.command_id for part in message.results} <= received
    assert sum(len(message.results) for message in messages) == 50


def test_a_received_that_waits_for_the_disk_holds_up_only_its_own_command() -> None:
    record = CommandRecord(durable=True)
    outbox = Outbox(record)
    record.start("done", "lease")
    record.start("runs", "lease")
    finish(record, outbox, "done")
    record.unwritten.take()
    record.unwritten.succeeded()
    write(record, outbox, "runs", b"live")
    outbox.add_extension("runs")
    start(record, outbox, "new")
    write(record, outbox, "new", b"behind")
    outbox.add_extension("new")
    finish(record, outbox, "new")
    (message,) = everything(outbox)
    assert [part.command_id for part in message.extensions] == ["runs"]
    assert [part.command_id for part in message.output] == ["runs"]
    assert [part.command_id for part in message.results] == ["done"]
    assert not message.received
    assert not message.started
    record.unwritten.take()
    record.unwritten.succeeded()
    (message,) = everything(outbox)
    parts = (message.received, message.started, message.extensions, message.output, message.results)
    assert [len(kind) for kind in parts] == [1] * 5


def test_the_first_to_finish_does_not_overtake_its_own_receipt() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    for number in range(25):
        start(record, outbox, str(number))
    write(record, outbox, "24", b"x")
    finish(record, outbox, "24")
    counts = [(len(m.received), len(m.started), len(m.output), len(m.results)) for m in everything(outbox)]
    assert counts == [(20, 20, 0, 0), (5, 5, 1, 1)]


def test_a_result_waits_for_the_last_of_its_output() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    record.start("a", "lease")
    write(record, outbox, "a", b"x" * (MAX_OUTPUT_BYTES + 1))
    finish(record, outbox, "a")
    first, second = everything(outbox)
    assert not first.results
    assert sum(len(part.data) for part in first.output) == MAX_OUTPUT_BYTES
    assert [len(part.data) for part in second.output] == [1]
    assert len(second.results) == 1


def test_a_chatty_command_does_not_hold_up_the_others() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    for command_id in ("chatty", "quiet"):
        record.start(command_id, "lease")
    write(record, outbox, "chatty", b"x" * 4 * MAX_OUTPUT_BYTES)
    write(record, outbox, "quiet", b"hello")
    finish(record, outbox, "quiet")
    first = outbox.take(CHUNK, LIMIT)
    assert first
    assert [part.command_id for part in first.output][:3] == ["chatty", "quiet", "chatty"]
    assert [result.command_id for result in first.results] == ["quiet"]


def test_large_results_are_spread_over_messages() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    for number in range(5):
        record.start(str(number), "lease")
        finish(record, outbox, str(number), data={"string_value": "x" * 1_500_000})
    assert [len(message.results) for message in everything(outbox)] == [2, 2, 1]


def test_what_was_disowned_is_not_told() -> None:
    record = CommandRecord()
    outbox = Outbox(record)
    held = record.start("a", "lease")
    write(record, outbox, "a", b"x")
    held.disowned = True
    finish(record, outbox, "a")
    assert everything(outbox) == []
