from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.bridge.requests import (
    MAX_PARAMS_VALUES,
    MAX_STRUCTURAL_CHARACTERS,
    Queue,
    Subscribe,
    Topics,
    Unsubscribe,
    fields_of,
    parse,
    request_id_of,
)
from distributor.errors import InvalidArgument
from distributor.model.command import OfflinePolicy
from distributor.model.queueing import CommandRequest
from tests.support.protocol_schema import SCHEMA, types_of

ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"


def parsed(type_: str, **fields: Any) -> Any:
    return parse({"type": type_, "version": "1.0.0", **fields})


def test_defaults_of_a_command() -> None:
    assert parsed("command:request", agentId="a", commandType="PING") == Queue(
        "", CommandRequest("a", "PING", priority=50, offline=OfflinePolicy.FAIL)
    )


@pytest.mark.parametrize(("given", "priority"), [("high", 75), ("normal", 50), ("low", 25), (0, 0), (100, 100)])
def test_priorities(given: object, priority: int) -> None:
    assert parsed("command:request", agentId="a", commandType="PING", priority=given).command.priority == priority


@pytest.mark.parametrize("given", [-1, 101, "urgent", 50.5, True, None, "50"])
def test_priorities_that_are_none(given: object) -> None:
    with pytest.raises(InvalidArgument, match="priority must be high, normal, low or 0 to 100"):
        parsed("command:request", agentId="a", commandType="PING", priority=given)


def test_a_command_line_stands_alone() -> None:
    with pytest.raises(InvalidArgument, match="must stand alone"):
        parsed("command:request", agentId="a", command="ls", commandType="EXEC")


@pytest.mark.parametrize("line", ["uname -a", "echo 'open", "a | b && c > d", "x" * 600_000, "two\nlines"])
def test_a_command_line_goes_to_the_shell_as_it_is(line: str) -> None:
    command = parsed("command:request", agentId="a", command=line).command
    assert (command.type, command.params) == ("EXEC", {"argv": ["sh", "-c", line]})


@pytest.mark.parametrize(("line", "why"), [("", "empty"), (" \n", "empty"), ("a\0b", "NUL")])
def test_an_invalid_command_line(line: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^Invalid command: .*{why}") as caught:
        parsed("command:request", agentId="a", command=line)
    assert (caught.value.field, caught.value.reason) == ("command", "INVALID_COMMAND")


def test_a_request_without_anything_to_run() -> None:
    with pytest.raises(InvalidArgument, match="^command is required") as caught:
        parsed("command:request", agentId="a")
    assert caught.value.field == "command"


def test_who_names_no_subscriptions_gets_every_agent_and_who_names_some_gets_those() -> None:
    assert parsed("dashboard:connect", token="t").subscribe == Topics(all_agents=True)
    assert parsed("dashboard:connect", token="t", subscribe={}).subscribe == Topics()


@pytest.mark.parametrize("opening", [",", "[", "{"])
def test_a_message_has_a_bounded_number_of_values(opening: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        fields_of(opening * (MAX_STRUCTURAL_CHARACTERS + 1))
    assert caught.value.reason == "TOO_MANY_VALUES"
    assert fields_of('{"x":[' + ",".join("1" * (MAX_STRUCTURAL_CHARACTERS - 1)) + "]}")


@pytest.mark.parametrize("value", [1, {}, []])
def test_params_have_a_bounded_number_of_values(value: object) -> None:
    for fits, count in ((True, MAX_PARAMS_VALUES - 2), (False, MAX_PARAMS_VALUES)):
        refused = ""
        try:
            parsed("command:request", agentId="a", commandType="T", params={"x": [value] * count})
        except InvalidArgument as error:
            refused = error.reason
        assert refused == ("" if fits else "TOO_MANY_VALUES")


def hostile(size: int) -> dict[str, str]:
    """Messages of about `size` characters that are worst for some part of parsing."""
    texts = {
        "a long word": "echo " + "x" * size,
        "words": "echo " + "x " * (size // 2),
        "quotes": "'" * size,
        "backslashes": "\\\\" * (size // 2),
        "escapes": "\\u0041" * (size // 6),
    }
    fields = {
        "one number": '"priority":' + "9" * size,
        "numbers": '"params":[' + ",".join(["9" * 4_300] * (size // 4_301)) + "]",
        "fraction": '"timeLimitSeconds":0.' + "9" * size,
        "lists": '"params":[' + ",".join(["[]"] * (size // 3)) + "]",
        "nesting": '"params":' + "[" * (size // 2) + "]" * (size // 2),
        "names": ",".join(f'"{number}":0' for number in range(size // 9)),
        "a long field": '"agentId":"' + "a" * size + '"',
        "spaces": '"x":' + " " * size + "1",
    } | {name: f'"command":"{text}"' for name, text in texts.items()}
    begin = '{"type":"command:request","version":"1.0.0","agentId":"a",'
    return {name: f"{begin}{field}}}" for name, field in fields.items()} | {"a long type": f'{{"type":"{"t" * size}"}}'}


def cost(text: str) -> float:
    """CPU seconds of reading a message, the best of some tries."""

    def once() -> float:
        begin = time.thread_time()
        with contextlib.suppress(InvalidArgument):
            parse(fields_of(text))
        return time.thread_time() - begin

    return min(once() for _ in range(7))


@pytest.mark.parametrize("name", hostile(16))
def test_no_message_costs_more_than_its_length(name: str) -> None:
    """Four times the length costs about four times as much; sixteen times where something is quadratic."""
    small, large = (cost(hostile(size)[name]) for size in (60_000, 240_000))
    assert large < 9 * small + 0.001


def test_subscriptions() -> None:
    request = parsed(
        "subscribe", agents=["*", "a"], commands=[ID], commandsOf=["b"], output=[{"commandId": ID, "offset": 5}]
    )
    assert request == Subscribe("", Topics(("a",), True, (ID,), False, ("b",), {ID: 5}))
    assert parsed("unsubscribe", commands=["*"], output=[ID]) == Unsubscribe(
        "", Topics(all_commands=True, output={ID: 0})
    )


@pytest.mark.parametrize("offset", [-1, 1.5, "0", True, 1 << 53])
def test_offsets_that_are_none(offset: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed("subscribe", output=[{"commandId": ID, "offset": offset}])
    assert caught.value.field == "output[0].offset"


@pytest.mark.parametrize("name", ["timeLimitSeconds", "idleLimitSeconds", "queueTtlSeconds"])
@pytest.mark.parametrize("given", [0, -1, 1e-12, 2_592_001, 1e400, int("9" * 400), True, "60", []])
def test_seconds_that_are_none(name: str, given: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} must be 0.001 to 2,592,000 seconds, not ") as caught:
        parsed("command:request", agentId="a", commandType="PING", **{name: given})
    assert caught.value.reason.endswith("_OUT_OF_RANGE")


@pytest.mark.parametrize("given", [0.001, 1, 2_592_000])
def test_seconds(given: float) -> None:
    request = parsed("command:request", agentId="a", commandType="PING", timeLimitSeconds=given, idleLimitSeconds=given)
    assert request.command.time_limit_seconds == request.command.idle_limit_seconds == given


@pytest.mark.parametrize("given", [0, -1, 1.5, 1_001, True, "2", []])
def test_slots_that_are_none(given: object) -> None:
    with pytest.raises(InvalidArgument, match="^slots must be a whole number from 1 to 1,000, not ") as caught:
        parsed("command:request", agentId="a", commandType="PING", slots=given)
    assert (caught.value.field, caught.value.reason) == ("slots", "SLOTS_OUT_OF_RANGE")


def test_runs() -> None:
    given = {"maxRuns": 100, "maxRunsByReason": {"exit_nonzero": 5, "x": 1}}
    command = parsed("command:request", agentId="a", commandType="PING", **given).command
    assert (command.max_runs, command.max_runs_by_reason) == (100, {"exit_nonzero": 5, "x": 1})


@pytest.mark.parametrize(
    ("given", "reason", "field", "message"),
    [
        ({"maxRuns": 0}, "MAX_RUNS_OUT_OF_RANGE", "maxRuns", "maxRuns must be a whole number from 1 to 100, not '0'"),
        ({"maxRuns": 101}, "MAX_RUNS_OUT_OF_RANGE", "maxRuns", ""),
        ({"maxRuns": True}, "MAX_RUNS_OUT_OF_RANGE", "maxRuns", ""),
        ({"maxRuns": "2"}, "MAX_RUNS_OUT_OF_RANGE", "maxRuns", ""),
        ({"maxRunsByReason": []}, "INVALID_FIELD", "maxRunsByReason", "maxRunsByReason must be an object, not '[]'"),
        (
            {"maxRunsByReason": {"exit_nonzero": 0.5}},
            "MAX_RUNS_OUT_OF_RANGE",
            "maxRunsByReason.exit_nonzero",
            "maxRunsByReason.exit_nonzero must be a whole number from 1 to 100, not '0.5'",
        ),
        (
            {"maxRunsByReason": {"Exit": 2}},
            "INVALID_REASON_CODE",
            "maxRunsByReason",
            "maxRunsByReason must name reasons by 1 to 64 of a-z 0-9 _, beginning with a letter, not 'Exit'",
        ),
        (
            {"maxRunsByReason": {f"r{number}": 2 for number in range(17)}},
            "TOO_MANY_REASONS",
            "maxRunsByReason",
            "maxRunsByReason has 17 reasons, the limit is 16",
        ),
    ],
)
def test_runs_that_are_none(given: dict[str, Any], reason: str, field: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed("command:request", agentId="a", commandType="PING", **given)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert message in ("", str(caught.value))


@pytest.mark.parametrize(("given", "slots"), [({}, None), ({"slots": 1_000}, 1_000)])
def test_slots(given: dict[str, int], slots: int | None) -> None:
    assert parsed("command:request", agentId="a", commandType="PING", **given).command.slots == slots


@pytest.mark.parametrize("field", ["priority", "timeLimitSeconds", "agentId", "params"])
def test_what_is_nested_too_deep_to_be_shown_is_refused(field: str) -> None:
    """As the reader of JSON can nest deeper than the writer, on another stack."""
    value: list[object] = []
    for _ in range(sys.getrecursionlimit()):
        value = [value]
    with pytest.raises(InvalidArgument, match="not something nested too deep") as caught:
        parsed("command:request", **{"agentId": "a", "commandType": "PING", field: value})
    assert caught.value.field == field


def test_lists_have_a_limit() -> None:
    with pytest.raises(InvalidArgument, match="at most 1,000"):
        parsed("subscribe", agents=["a"] * 1_001)


@pytest.mark.parametrize("request_id", [5, "x" * 129])
def test_request_ids_that_are_not_sent_back(request_id: object) -> None:
    assert request_id_of({"requestId": request_id}) == ""
    with pytest.raises(InvalidArgument):
        parsed("ping", requestId=request_id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PROPERTIES = {name for definition in SCHEMA["$defs"].values() for name in definition.get("properties", {})}
NAMES = st.sampled_from(sorted(PROPERTIES - {"type", "version"}))
TYPES = st.sampled_from(sorted(types_of("clientMessage") | {"x"}))


@given(TYPES, st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_comes_is_read_or_refused(type_: str, fields: dict[str, Any]) -> None:
    try:
        parsed(type_, **fields)
    except InvalidArgument as error:
        error.message.encode()


@given(st.text())
def test_any_text_is_an_object_or_refused(text: str) -> None:
    try:
        assert isinstance(fields_of(text), dict)
    except InvalidArgument as error:
        error.message.encode()
