from __future__ import annotations

import json
import math
from collections import UserDict
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import example, given
from hypothesis import strategies as st

from distributor.model.json_value import JsonValue
from distributor.v1 import agent_gateway_pb2, command_pb2, command_service_pb2
from distributor.wire.json_values import (
    MAX_DEPTH,
    MAX_EXACT_INT,
    NotJson,
    fill_received,
    fill_struct,
    fill_value,
    json_text,
    plain_struct,
    plain_value,
    rough_size,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_EXACT_INT, MAX_EXACT_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NOT_JSON: list[tuple[Any, str, str]] = [
    ({"a": {1, 2}}, "p.a", "is a set, which is not JSON"),
    ({"a": b"bytes"}, "p.a", "is a bytes, which is not JSON"),
    ({"a": [1, {"b": object()}]}, "p.a[1].b", "is a object, which is not JSON"),
    ({"a": math.nan}, "p.a", "is nan, which JSON cannot represent"),
    ({"a": [-math.inf]}, "p.a[0]", "is -inf, which JSON cannot represent"),
    ({"a": "\ud800"}, "p.a", "is not valid Unicode text"),
    ({"\ud800": 1}, "p", "has a name that is not valid Unicode"),
    ({"a": {(1, 2): "x"}}, "p.a", "has a name of type tuple, names must be text"),
    ({"a": 10**5_000}, "p.a", "is an integer beyond ±2^53, which would be rounded: send it as text"),
    ({"two words": {"\x1b[2J": {1}}}, "p['two words']['\\x1b[2J']", "is a set, which is not JSON"),
    ({"x" * 41: {1}}, f"p['{'x' * 40}']", "is a set, which is not JSON"),
]


class Colour(StrEnum):
    RED = "red"


def nested(depth: int) -> Any:
    """`depth` objects inside one another, each costing as much as a level can."""
    return {"a": nested(depth - 1) if depth > 1 else 1}


def value_of(plain: object) -> Value:
    value = Value()
    fill_value(value, plain, "p")
    return value


def lists(depth: int, inmost: Value) -> Value:
    """A value that another program may send: lists cost less than objects, so they may nest deeper than ours."""
    for _ in range(depth):
        outer = Value()
        outer.list_value.values.append(inmost)
        inmost = outer
    return inmost


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_goes_out_comes_back(items: dict[str, object]) -> None:
    struct = Struct()
    fill_struct(struct, items, "p")
    assert plain_struct(Struct.FromString(struct.SerializeToString())) == items


@given(VALUES)
def test_the_message_means_the_same_to_protobufs_own_json(plain: object) -> None:
    assert json_format.MessageToDict(value_of(plain)) == plain


@given(VALUES)
def test_text_is_json_and_comes_back(plain: object) -> None:
    value = value_of(plain)
    text = json_text(plain_value(value), "p")
    assert json.loads(text) == plain
    restored = Value()
    fill_received(restored, json.loads(text))
    assert plain_value(restored) == plain


@example(-0.0)
@example(-(2.0**53))
@example(2.0**53 + 2)
@example(0.5)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_integers_only_while_they_are_exact(number: float) -> None:
    plain = plain_value(Value(number_value=number))
    assert plain == number
    assert math.copysign(1, plain) == math.copysign(1, number)
    assert isinstance(plain, int) == (number.is_integer() and abs(number) <= 2**53 and str(number) != "-0.0")


def test_names_come_in_order() -> None:
    assert json_text(plain_value(value_of({"b": 1.0, "a": {"z": 0.5, "y": True}})), "p") == (
        '{"a":{"y":true,"z":0.5},"b":1}'
    )


def test_an_unset_value_is_null_and_what_is_empty_is_set() -> None:
    assert plain_struct(Struct(fields={"a": Value()})) == {"a": None}
    assert plain_value(value_of({"a": [], "b": {}})) == {"a": [], "b": {}}
    command = command_pb2.Command()
    fill_struct(command.params, {}, "p")
    assert command.HasField("params")


def test_tuples_and_other_mappings_are_lists_and_objects() -> None:
    plain = UserDict({"a": (1, Colour.RED)})
    assert plain_value(value_of(plain)) == {"a": [1, "red"]}
    assert json_text(plain, "p") == '{"a":[1,"red"]}'


def test_text_is_compact_and_keeps_its_letters() -> None:
    assert json_text({"a": ["é", None]}, "p") == '{"a":["é",null]}'


@pytest.mark.parametrize(("items", "path", "what"), NOT_JSON)
def test_what_cannot_travel_is_refused_with_its_place(items: Any, path: str, what: str) -> None:
    with pytest.raises(NotJson) as caught:
        fill_struct(Struct(), items, "p")
    assert (caught.value.path, str(caught.value)) == (path, f"{path} {what}")
    with pytest.raises(NotJson) as caught:
        fill_value(Value(), items, "p")
    assert (caught.value.path, str(caught.value)) == (path, f"{path} {what}")


@pytest.mark.parametrize(("items", "path", "what"), NOT_JSON)
def test_what_has_no_text_is_refused_with_its_place(items: Any, path: str, what: str) -> None:
    with pytest.raises(NotJson) as caught:
        json_text(items, "p")
    assert (caught.value.path, str(caught.value)) == (path, f"{path} {what}")


def test_what_only_the_encoder_minds_is_refused() -> None:
    class Fickle(UserDict[str, object]):
        def keys(self) -> Any:
            raise TypeError("not now")

    with pytest.raises(NotJson, match="^p is not JSON: not now$"):
        json_text(Fickle(), "p")


def test_a_value_inside_itself_is_refused() -> None:
    endless: list[object] = []
    endless += [endless, endless]
    with pytest.raises(NotJson, match=r"^p(\[0\])+ nests deeper than 32 levels$"):
        json_text(endless, "p")
    with pytest.raises(NotJson, match="nests deeper than 32 levels") as caught:
        fill_value(Value(), endless, "p")
    assert caught.value.path == "p" + "[0]" * MAX_DEPTH


@pytest.mark.parametrize("deep", [nested(MAX_DEPTH + 1), nested(500)])
def test_what_is_too_deep_is_refused(deep: Any) -> None:
    path = "p" + ".a" * MAX_DEPTH
    with pytest.raises(NotJson, match=f"^{path} nests deeper than 32 levels$"):
        fill_struct(Struct(), deep, "p")
    with pytest.raises(NotJson, match=f"^{path} nests deeper than 32 levels$"):
        fill_value(Value(), deep, "p")


def test_the_deepest_value_fits_into_every_message_that_carries_it() -> None:
    gateway, service = agent_gateway_pb2, command_service_pb2
    value = value_of(nested(MAX_DEPTH))
    command = command_pb2.Command(params=value.struct_value)
    result = command_pb2.CommandResult(data=value)
    for message in (
        service.QueueCommandsRequest(requests=[service.QueueCommandRequest(command=command)]),
        gateway.ConnectResponse(commands=gateway.Commands(assignments=[gateway.Assignment(command=command)])),
        gateway.ConnectRequest(results=[gateway.Result(data=value)]),
        service.WatchCommandResponse(result=result),
    ):
        assert type(message).FromString(message.SerializeToString()) == message


def test_the_deepest_value_that_can_be_received_comes_back_from_its_text() -> None:
    deep, messages = Value(string_value="here"), 0
    while True:
        deeper = lists(1, deep)
        try:
            Value.FromString(deeper.SerializeToString())
        except DecodeError:
            break
        deep, messages = deeper, messages + 2
    assert messages > MAX_DEPTH
    restored = Value()
    fill_received(restored, plain_value(deep))
    assert restored == deep


def test_the_place_is_found_also_in_what_nests_deeper_than_ours() -> None:
    with pytest.raises(NotJson, match=r"^p(\[0\]){40} is nan, which JSON cannot represent$"):
        json_text(plain_value(lists(40, Value(number_value=math.nan))), "p")


@pytest.mark.parametrize(
    ("value", "size"),
    [(None, 2), (7, 2), ("text", 6), ([], 2), ([1, "ab", {}], 10), ({"name": "x"}, 9), ([[[1]]], 8)],
)
def test_the_rough_size_counts_items_and_characters(value: JsonValue, size: int) -> None:
    assert rough_size(value, 1_000) == size


def test_the_rough_size_looks_no_further_than_asked() -> None:
    endless: list[JsonValue] = []
    endless.append(endless)
    assert rough_size(endless, 100) == 102
