"""Messages of an agent in short text for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final

from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

SHOWN: Final = 12
"""Maximum number of messages shown, the last ones."""

QUOTED_CHARS: Final = 80
"""Maximum number of characters of a foreign text that is shown."""

_PREFIX: Final = re.compile(r"(?<!^)(?=[A-Z])")


def texts(messages: Sequence[gateway.ConnectRequest]) -> str:
    """The last messages, separated by bars; "nothing" if there are none. Of heartbeats in a row, the last is shown."""
    telling = [
        message
        for message, later in zip_longest(messages, messages[1:])
        if not (_is_heartbeat(message) and later is not None and _is_heartbeat(later))
    ]
    shown = [text(message) for message in telling[-SHOWN:]]
    return " | ".join(["…", *shown] if len(telling) > SHOWN else shown) or "nothing"


def text(message: gateway.ConnectRequest) -> str:
    """The parts of a message, in order."""
    return ", ".join(_parts(message)) or "an empty message"


def _is_heartbeat(message: gateway.ConnectRequest) -> bool:
    return [field.name for field, _ in message.ListFields()] == ["heartbeat"]


def quoted(words: str) -> str:
    """A foreign text in quotes, cut if it is long."""
    return repr(words if len(words) <= QUOTED_CHARS else words[:QUOTED_CHARS] + "…")


def _parts(message: gateway.ConnectRequest) -> Iterator[str]:
    if message.HasField("hello"):
        hello = message.hello
        yield f"Hello with {len(hello.running)} running and {len(hello.unacknowledged)} unacknowledged"
    if message.HasField("heartbeat"):
        beat = message.heartbeat
        yield f"Heartbeat {beat.sequence} (credit {beat.credit}, running {beat.running})"
    yield from (f"Received {_short(part.command_id)}" for part in message.received)
    yield from (f"Started {_short(part.command_id)}" for part in message.started)
    for refused in message.refused:
        code = _name(gateway.RefusalCode, refused.code)
        yield f"Refused {_short(refused.command_id)} {code}"
    for output in message.output:
        yield f"Output {_short(output.command_id)} {output.offset}–{output.offset + len(output.data)}"
    for result in message.results:
        status = _name(command_pb2.CommandStatus, result.status)
        yield f"Result {_short(result.command_id)} {status} {result.reason.code[:QUOTED_CHARS]}".rstrip()
    for report in message.cancel_reports:
        finding = _name(gateway.CancelFinding, report.finding)
        yield f"CancelReport {_short(report.command_id)} {finding}"
    yield from (f"Extension {_short(part.command_id)}" for part in message.extensions)
    if message.HasField("halted"):
        running = [_short(one.command_id) for one in message.halted.running]
        yield f"Halted ({', '.join(running[:SHOWN]) or 'nothing'} running)"
    if message.HasField("goodbye"):
        yield "Goodbye"


def _name(enum: Any, number: int) -> str:
    """The last word of the name of an enum's value; the number if it has no name."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    if value is None:
        return str(number)
    return str(value.name).removeprefix(_PREFIX.sub("_", enum.DESCRIPTOR.name).upper() + "_")


def _short(command_id: str) -> str:
    return command_id[-6:]
