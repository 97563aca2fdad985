"""What every message of an agent must be, whatever the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.conformance.message_text import text
from distributor.conformance.unmet import Unmet
from distributor.model.command import MAX_REASON_MESSAGE, REASON_CODE_PATTERN
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.limits import MAX_OUTPUT_CHUNK_BYTES

MAX_PARTS: Final = 20
REPEATED: Final = ("received", "started", "refused", "output", "results", "cancel_reports", "extensions")
TERMINAL: Final = (
    command_pb2.COMMAND_STATUS_COMPLETED,
    command_pb2.COMMAND_STATUS_FAILED,
    command_pb2.COMMAND_STATUS_TIMEOUT,
    command_pb2.COMMAND_STATUS_CANCELLED,
)


def check_messages(messages: Sequence[gateway.ConnectRequest]) -> None:
    """Check the messages of one stream after its Hello. Raises Unmet for the first that breaks a rule."""
    beats, ends, left = 0, dict[str, int](), False
    for message in messages:
        _require(not left, message, "nothing after Goodbye")
        _require(not message.HasField("hello"), message, "one Hello, in the first message")
        left = message.HasField("goodbye")
        if message.HasField("heartbeat"):
            beats += 1
            _require(message.heartbeat.sequence == beats, message, f"heartbeat {beats}")
        for part in REPEATED:
            _require(len(getattr(message, part)) <= MAX_PARTS, message, f"at most {MAX_PARTS} {part} in a message")
        for output in message.output:
            _check_output(message, output, ends)
        for result in message.results:
            _check_result(message, result)


def _check_output(message: gateway.ConnectRequest, output: gateway.Output, ends: dict[str, int]) -> None:
    known = (command_pb2.OUTPUT_STREAM_STDOUT, command_pb2.OUTPUT_STREAM_STDERR)
    _require(output.stream in known, message, "output of stdout or stderr")
    size = len(output.data)
    _require(1 <= size <= MAX_OUTPUT_CHUNK_BYTES, message, f"1 to {MAX_OUTPUT_CHUNK_BYTES} bytes of output in a part")
    end = ends.get(output.lease_id, output.offset)
    _require(0 <= output.offset <= end, message, f"output from {end} or before, without a gap")
    ends[output.lease_id] = max(end, output.offset + size)


def _check_result(message: gateway.ConnectRequest, result: gateway.Result) -> None:
    code, words = result.reason.code, result.reason.message
    _require(result.status in TERMINAL, message, "a terminal status in a result")
    _require(not code or REASON_CODE_PATTERN.fullmatch(code), message, "a reason code in lower_snake_case")
    _require(len(words) <= MAX_REASON_MESSAGE, message, f"at most {MAX_REASON_MESSAGE} characters in a reason")
    _require(result.output_bytes >= 0, message, "output_bytes of 0 or more")


def _require(condition: object, message: gateway.ConnectRequest, expected: str) -> None:
    if not condition:
        raise Unmet(text(message), expected)
