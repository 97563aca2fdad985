from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.command import (
    MAX_DURATION_MS,
    NAMED_PRIORITIES,
    CommandLimits,
    InvalidField,
    check_agent_id,
    check_command_id,
    shown,
)
from distributor.model.queueing import NewCommand, check_new_command

NEW = NewCommand("c1", "agent123", "PING", b"")
LIMITS = CommandLimits(max_params_bytes=1_000)

BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"agent_id": ""}, "command.agent_id", "INVALID_AGENT_ID", "1 to 128 of A-Z a-z 0-9 . _ -, not empty"),
    ({"agent_id": "a" * 129}, "command.agent_id", "INVALID_AGENT_ID", "(129 characters)"),
    ({"agent_id": "a/b"}, "command.agent_id", "INVALID_AGENT_ID", "not 'a/b'"),
    ({"agent_id": "a:b"}, "command.agent_id", "INVALID_AGENT_ID", "not 'a:b'"),
    ({"agent_id": "agent\n"}, "command.agent_id", "INVALID_AGENT_ID", r"not 'agent\n'"),
    ({"agent_id": "ägent"}, "command.agent_id", "INVALID_AGENT_ID", "not 'ägent'"),
    ({"type": ""}, "command.type", "INVALID_TYPE", "a letter and up to 63 of"),
    ({"type": "1ST"}, "command.type", "INVALID_TYPE", "not '1ST'"),
    ({"type": "A,B"}, "command.type", "INVALID_TYPE", "not 'A,B'"),
    ({"type": "A" * 65}, "command.type", "INVALID_TYPE", "(65 characters)"),
    ({"params_bytes": 1_001}, "command.params", "PARAMS_TOO_LARGE", "1,001 bytes, the limit is 1,000"),
    ({"priority": -1}, "command.priority", "PRIORITY_OUT_OF_RANGE", "0 to 100, not -1"),
    ({"priority": 101}, "command.priority", "PRIORITY_OUT_OF_RANGE", "0 to 100, not 101"),
    ({"time_limit_ms": 0}, "command.time_limit", "TIME_LIMIT_OUT_OF_RANGE", "1 to 2,592,000,000 ms, not 0 ms"),
    ({"time_limit_ms": -5}, "command.time_limit", "TIME_LIMIT_OUT_OF_RANGE", "not -5 ms"),
    ({"time_limit_ms": MAX_DURATION_MS + 1}, "command.time_limit", "TIME_LIMIT_OUT_OF_RANGE", "2,592,000,001 ms"),
    ({"idle_limit_ms": 0}, "command.idle_limit", "IDLE_LIMIT_OUT_OF_RANGE", "1 to 2,592,000,000 ms, not 0 ms"),
    ({"queue_ttl_ms": 0}, "command.queue_ttl", "QUEUE_TTL_OUT_OF_RANGE", "1 to 2,592,000,000 ms"),
    ({"queue_ttl_ms": MAX_DURATION_MS + 1}, "command.queue_ttl", "QUEUE_TTL_OUT_OF_RANGE", "2,592,000,001 ms"),
    ({"max_runs": 0}, "command.max_runs", "MAX_RUNS_OUT_OF_RANGE", "1 to 100, not 0"),
    ({"max_runs_by_reason": (("a", 0),)}, "command.max_runs_by_reason", "MAX_RUNS_OUT_OF_RANGE", "1 to 100, not 0"),
    ({"max_runs_by_reason": (("a", 101),)}, "command.max_runs_by_reason", "MAX_RUNS_OUT_OF_RANGE", "not 101"),
    ({"max_runs_by_reason": (("A", 1),)}, "command.max_runs_by_reason", "INVALID_REASON_CODE", "not 'A'"),
    ({"max_runs_by_reason": (("a=1", 1),)}, "command.max_runs_by_reason", "INVALID_REASON_CODE", "not 'a=1'"),
    ({"max_runs_by_reason": (("a", 1),) * 17}, "command.max_runs_by_reason", "TOO_MANY_REASONS", "the limit is 16"),
    ({"max_runs": 101}, "command.max_runs", "MAX_RUNS_OUT_OF_RANGE", "1 to 100, not 101"),
    ({"slots": 0}, "command.slots", "SLOTS_OUT_OF_RANGE", "1 to 1,000, not 0"),
    ({"slots": 1_001}, "command.slots", "SLOTS_OUT_OF_RANGE", "1 to 1,000, not 1,001"),
    ({"idempotency_key": "a b"}, "idempotency_key", "INVALID_IDEMPOTENCY_KEY", "without spaces"),
    ({"idempotency_key": "é"}, "idempotency_key", "INVALID_IDEMPOTENCY_KEY", "printable ASCII"),
    ({"idempotency_key": "k" * 129}, "idempotency_key", "INVALID_IDEMPOTENCY_KEY", "at most 128"),
]

GOOD: list[dict[str, Any]] = [
    {},
    {"agent_id": "a"},
    {"agent_id": "Agent_1.example-2" + "a" * 111},
    {"type": "a"},
    {"type": "A.b_c-9" + "x" * 57},
    {"params_bytes": 1_000},
    {"priority": 0},
    {"priority": 100},
    {"time_limit_ms": 1},
    {"time_limit_ms": MAX_DURATION_MS},
    {"idle_limit_ms": 1},
    {"queue_ttl_ms": 1},
    {"queue_ttl_ms": MAX_DURATION_MS},
    {"max_runs": 100},
    {"slots": 1_000},
    {"max_runs_by_reason": (("a" * 64, 100),) * 16},
    {"idempotency_key": "!" * 128},
]


@pytest.mark.parametrize(("change", "field", "reason", "words"), BAD, ids=lambda value: str(value)[:30])
def test_every_bad_field_is_named_with_its_limit(change: dict[str, Any], field: str, reason: str, words: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check_new_command(NEW._replace(**change), LIMITS)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert words in str(caught.value)
    assert str(caught.value).startswith(field)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", GOOD, ids=lambda value: str(value)[:30])
def test_what_is_just_within_the_limits(change: dict[str, Any]) -> None:
    check_new_command(NEW._replace(**change), LIMITS)


def test_every_field_that_a_caller_sets_is_checked() -> None:
    """`offline` is an enumeration, and the rest is of our own making."""
    ours = {"command_id", "encoded", "params_summary", "digest", "offline", "requested_by"}
    assert {name for change, *_ in BAD for name in change} == set(NewCommand._fields) - ours


@pytest.mark.parametrize(
    "command_id", ["0198c7f2-0000-7000-8000-00000000000a", "{07f}0198c7f2-0000-7000-8000-00000000000a"]
)
def test_command_ids(command_id: str) -> None:
    check_command_id(command_id)


@pytest.mark.parametrize(
    "command_id",
    [
        "",
        "0198c7f2-0000-7000-8000-00000000000",
        "0198C7F2-0000-7000-8000-00000000000A",
        "0198c7f200007000800000000000000a",
        "0198c7f2-0000-7000-8000-00000000000a\n",
        "{}0198c7f2-0000-7000-8000-00000000000a",
        "{xyz}0198c7f2-0000-7000-8000-00000000000a",
        "x0198c7f2-0000-7000-8000-00000000000a",
    ],
)
def test_what_is_no_command_id(command_id: str) -> None:
    with pytest.raises(InvalidField, match="command_id must be a command id") as caught:
        check_command_id(command_id)
    assert caught.value.reason == "INVALID_COMMAND_ID"


def test_the_field_is_named_as_the_caller_knows_it() -> None:
    with pytest.raises(InvalidField, match=r"hello\.agent_id must be") as caught:
        check_agent_id("", "hello.agent_id")
    assert caught.value.field == "hello.agent_id"


@given(st.text(max_size=300))
def test_whatever_it_is_it_can_be_shown_on_one_short_line(text: str) -> None:
    said = shown(text)
    assert said.isprintable()
    assert len(said) <= 40 * len(r"\U0001f600") + 30


def test_names_of_priorities() -> None:
    assert NAMED_PRIORITIES == {"low": 25, "normal": 50, "high": 75}
    assert NEW.priority == NAMED_PRIORITIES["normal"]
