"""What every message of an agent must be, whatever the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.conformance.hello_check import MAX_ID_CHARS
from distributor.conformance.message_text import text
from distributor.conformance.unmet import Unmet
from distributor.model.command import MAX_REASON_MESSAGE, REASON_CODE_PATTERN
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.json_values import NotJson
from distributor.wire.limits import MAX_HELD, MAX_OUTPUT_CHUNK_BYTES, MAX_OUTPUT_OFFSET, MAX_SURVIVORS
from distributor.wire.struct_check import check_value

MAX_PARTS: Final = 20
MAX_PROBLEMS: Final = 8
REPEATED: Final = ("received", "started", "refused", "output", "results", "cancel_reports", "extensions")
TERMINAL: Final = (
    command_pb2.COMMAND_STATUS_COMPLETED,
    command_pb2.COMMAND_STATUS_FAILED,
    command_pb2.COMMAND_STATUS_TIMEOUT,
    command_pb2.COMMAND_STATUS_CANCELLED,
)


def check_messages(hello: gateway.Hello, messages: Sequence[gateway.ConnectRequest]) -> None:
    """Check the messages of one stream after its Hello. Raises Unmet for the first that breaks a rule."""
    beats, left = 0, False
    # Output may start no later than the Hello announced, 0 for leases that it does not list.
    ends = {held.lease_id: held.output_offset for held in (*hello.running, *hello.unacknowledged)}
    for message in messages:
        _require(not left, message, "nothing after Goodbye")
        _require(not message.HasField("hello"), message, "one Hello, in the first message")
        _require(not message.gzip, message, "no gzip within gzip")
        left = message.HasField("goodbye")
        if message.HasField("heartbeat"):
            beats += 1
            _check_heartbeat(message, beats)
        for part in REPEATED:
            _check_part(message, part)
        for output in message.output:
            _check_output(message, output, ends)
        for result in message.results:
            _check_result(message, result)
        _check_halted(message)


def _check_heartbeat(message: gateway.ConnectRequest, number: int) -> None:
    beat = message.heartbeat
    _require(beat.sequence == number, message, f"heartbeat {number}")
    _require(beat.credit >= 0 and beat.running >= 0, message, "credit and running of 0 or more")
    _require(len(beat.problems) <= MAX_PROBLEMS, message, f"at most {MAX_PROBLEMS} problems")
    _require(len(beat.progress) <= MAX_HELD, message, f"progress of at most {MAX_HELD} commands")


def _check_part(message: gateway.ConnectRequest, part: str) -> None:
    entries = getattr(message, part)
    _require(len(entries) <= MAX_PARTS, message, f"at most {MAX_PARTS} {part} in a message")
    for entry in entries:
        for name in ("command_id", "lease_id"):
            size = len(getattr(entry, name))
            _require(size <= MAX_ID_CHARS, message, f"a {name} of at most {MAX_ID_CHARS} characters in {part}")
    for refused in message.refused:
        _require(refused.code in gateway.RefusalCode.values()[1:], message, "a refusal with a known code")
    for report in message.cancel_reports:
        _require(report.finding in gateway.CancelFinding.values()[1:], message, "a cancel report with a known finding")


def _check_output(message: gateway.ConnectRequest, output: gateway.Output, ends: dict[str, int]) -> None:
    known = (command_pb2.OUTPUT_STREAM_STDOUT, command_pb2.OUTPUT_STREAM_STDERR)
    _require(output.stream in known, message, "output of stdout or stderr")
    size = len(output.data)
    _require(1 <= size <= MAX_OUTPUT_CHUNK_BYTES, message, f"1 to {MAX_OUTPUT_CHUNK_BYTES} bytes of output in a part")
    end = ends.get(output.lease_id, 0)
    _require(0 <= output.offset <= end, message, f"output from {end} or before, without a gap")
    _require(output.offset + size <= MAX_OUTPUT_OFFSET, message, "output up to 2^53 at most")
    ends[output.lease_id] = max(end, output.offset + size)


def _check_result(message: gateway.ConnectRequest, result: gateway.Result) -> None:
    code, words = result.reason.code, result.reason.message
    _require(result.status in TERMINAL, message, "a terminal status in a result")
    _require(not code or REASON_CODE_PATTERN.fullmatch(code), message, "a reason code in lower_snake_case")
    _require(len(words) <= MAX_REASON_MESSAGE, message, f"at most {MAX_REASON_MESSAGE} characters in a reason")
    _require(0 <= result.output_bytes <= MAX_OUTPUT_OFFSET, message, "output_bytes of 0 to 2^53")
    _require(len(result.survivors) <= MAX_SURVIVORS, message, f"at most {MAX_SURVIVORS} survivors")
    try:
        check_value(result.data, "data")
    except NotJson as error:
        raise Unmet(f"{text(message)}: {error}", "a result whose data is JSON") from error


def _check_halted(message: gateway.ConnectRequest) -> None:
    halted = message.halted
    _require(bool(halted.stop_id) == message.HasField("halted"), message, "a Halted that names its emergency stop")
    _require(len(halted.running) <= MAX_HELD, message, f"at most {MAX_HELD} commands in Halted")
    for one in halted.running:
        _require(1 <= len(one.command_id) <= MAX_ID_CHARS, message, f"ids of 1 to {MAX_ID_CHARS} characters in Halted")
        _require(len(one.survivors) <= MAX_SURVIVORS, message, f"at most {MAX_SURVIVORS} survivors")


def _require(condition: object, message: gateway.ConnectRequest, expected: str) -> None:
    if not condition:
        raise Unmet(text(message), expected)
