from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.bridge.requests import Queue, Subscribe, Unsubscribe, Wanted, fields_of, parse, request_id_of
from distributor.errors import InvalidArgument
from distributor.model.command import OfflinePolicy
from tests.support.protocol_schema import SCHEMA, types_of

ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"


def parsed(type_: str, **fields: Any) -> Any:
    return parse({"type": type_, "version": "1.0.0", **fields})


def test_defaults_of_a_command() -> None:
    assert parsed("command:request", agentId="a", commandType="PING") == Queue(
        "", "a", "PING", {}, 50, OfflinePolicy.QUEUE, None, None, ""
    )


@pytest.mark.parametrize(("given", "priority"), [("high", 75), ("normal", 50), ("low", 25), (0, 0), (100, 100)])
def test_priorities(given: object, priority: int) -> None:
    assert parsed("command:request", agentId="a", commandType="PING", priority=given).priority == priority


@pytest.mark.parametrize("given", [-1, 101, "urgent", 50.5, True, None, "50"])
def test_priorities_that_are_none(given: object) -> None:
    with pytest.raises(InvalidArgument, match="priority must be high, normal, low or 0 to 100"):
        parsed("command:request", agentId="a", commandType="PING", priority=given)


def test_a_command_line_stands_alone() -> None:
    with pytest.raises(InvalidArgument, match="must stand alone"):
        parsed("command:request", agentId="a", command="ls", commandType="EXEC")


def test_subscriptions() -> None:
    request = parsed(
        "subscribe", agents=["*", "a"], commands=[ID], commandsOf=["b"], output=[{"commandId": ID, "offset": 5}]
    )
    assert request == Subscribe("", Wanted(("a",), True, (ID,), False, ("b",), {ID: 5}))
    assert parsed("unsubscribe", commands=["*"], output=[ID]) == Unsubscribe(
        "", Wanted(all_commands=True, output={ID: 0})
    )


@pytest.mark.parametrize("offset", [-1, 1.5, "0", True, 1 << 53])
def test_offsets_that_are_none(offset: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed("subscribe", output=[{"commandId": ID, "offset": offset}])
    assert caught.value.field == "output[0].offset"


@pytest.mark.parametrize("name", ["timeLimitSeconds", "queueTtlSeconds"])
@pytest.mark.parametrize("given", [0, -1, 1e-12, 2_592_001, 1e400, int("9" * 400), True, "60", []])
def test_seconds_that_are_none(name: str, given: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} must be 0.001 to 2,592,000 seconds, not ") as caught:
        parsed("command:request", agentId="a", commandType="PING", **{name: given})
    assert caught.value.reason.endswith("_OUT_OF_RANGE")


@pytest.mark.parametrize("given", [0.001, 1, 2_592_000])
def test_seconds(given: float) -> None:
    assert (
        parsed("command:request", agentId="a", commandType="PING", timeLimitSeconds=given).time_limit_seconds == given
    )


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
