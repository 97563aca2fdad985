"""What the Hello of an agent must be, whatever the scenario."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from google.protobuf.duration_pb2 import Duration

from distributor.conformance.message_text import quoted, text
from distributor.conformance.messages import CONFORMANCE
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_HELD, MAX_OUTPUT_OFFSET

AGENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_ID_CHARS: Final = 64
MAX_INSTANCE_CHARS: Final = 128
MAX_CAPACITY: Final = 1_000
MAX_TYPES: Final = 100
MAX_LABELS: Final = 64
MAX_LABEL_CHARS: Final = 256
MAX_DURATION_SECONDS: Final = 315_576_000_000
"""Limit of google.protobuf.Duration."""

Rules = Iterator[tuple[object, str, str]]
"""Of each rule: whether it is kept, what came, and what was expected."""


def check_hello(message: gateway.ConnectRequest) -> None:
    """Check the first message of a stream. Raises Unmet for the first broken rule."""
    parts = [field.name for field, _ in message.ListFields()]
    if parts != ["hello"]:
        raise Unmet(text(message) if parts else "an empty message", "a Hello, alone in the first message")
    for kept, came, expected in _rules(message.hello):
        if not kept:
            raise Unmet(came, expected)


def seconds_of(duration: Duration) -> float | None:
    """The seconds of a duration, None if it is negative or invalid."""
    valid = 0 <= duration.seconds <= MAX_DURATION_SECONDS and 0 <= duration.nanos < 10**9
    return duration.seconds + duration.nanos / 1e9 if valid else None


def _rules(hello: gateway.Hello) -> Rules:
    yield (
        AGENT_ID.fullmatch(hello.agent_id),
        f"agent_id {quoted(hello.agent_id)}",
        "an agent_id of [A-Za-z0-9._-]{1,128}",
    )
    size = len(hello.instance_id)
    came = f"instance_id {quoted(hello.instance_id)} of {size} characters"
    yield 1 <= size <= MAX_INSTANCE_CHARS, came, f"an instance_id of 1 to {MAX_INSTANCE_CHARS} characters"
    yield 1 <= hello.capacity <= MAX_CAPACITY, f"capacity {hello.capacity}", f"a capacity of 1 to {MAX_CAPACITY}"
    offered = not hello.types or {"PING", CONFORMANCE} <= {*hello.types}
    yield offered, f"types {quoted(', '.join(hello.types))}", f"PING and {CONFORMANCE} among the types"
    yield len(hello.types) <= MAX_TYPES, f"{len(hello.types)} types", f"at most {MAX_TYPES} types"
    yield len(hello.labels) <= MAX_LABELS, f"{len(hello.labels)} labels", f"at most {MAX_LABELS} labels"
    longest = max((len(name) + len(value) for name, value in hello.labels.items()), default=0)
    yield longest <= MAX_LABEL_CHARS, f"a label of {longest} characters", f"labels of at most {MAX_LABEL_CHARS}"
    came = f"orphan_after {hello.orphan_after.seconds} s {hello.orphan_after.nanos} ns"
    yield seconds_of(hello.orphan_after) is not None, came, "a valid orphan_after of 0 or more"
    yield from _held_rules([*hello.running, *hello.unacknowledged])


def _held_rules(listed: list[gateway.RunningCommand]) -> Rules:
    yield len(listed) <= MAX_HELD, f"{len(listed)} commands", f"at most {MAX_HELD} commands in the Hello"
    for held in listed:
        for name, value in (("command_id", held.command_id), ("lease_id", held.lease_id)):
            valid = 1 <= len(value) <= MAX_ID_CHARS
            yield valid, f"{name} {quoted(value)}", f"a {name} of 1 to {MAX_ID_CHARS} characters in the Hello"
        valid = 0 <= held.output_offset <= MAX_OUTPUT_OFFSET
        yield valid, f"output_offset {held.output_offset}", "an output_offset of 0 to 2^53 in the Hello"
