from __future__ import annotations

import math

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from distributor.agent.json_values import MAX_DEPTH, UnfitValue, fill_value, json_size, struct_to_dict

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_values_survive_the_way_there_and_back(values: dict[str, object]) -> None:
    message = struct_pb2.Value()
    fill_value(message, values)
    assert struct_to_dict(struct_pb2.Value.FromString(message.SerializeToString()).struct_value) == values


@given(json_values)
def test_the_message_means_the_same_to_protobufs_own_json(value: object) -> None:
    message = struct_pb2.Value()
    fill_value(message, value)
    assert json_format.MessageToDict(message) == value


def test_whole_numbers_come_back_as_integers_only_while_they_are_exact() -> None:
    struct = struct_pb2.Struct()
    struct.update({"small": 3.0, "half": 0.5, "large": 1e300})
    values = struct_to_dict(struct)
    assert (type(values["small"]), type(values["half"]), type(values["large"])) == (int, float, float)


def test_an_unset_value_is_null() -> None:
    assert struct_to_dict(struct_pb2.Struct(fields={"a": struct_pb2.Value()})) == {"a": None}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "the handler's value is not JSON"),
        (b"bytes", "the handler's value is not JSON"),
        ({1, 2}, "the handler's value is not JSON"),
        (math.nan, "the handler's value is not JSON"),
        (math.inf, "the handler's value is not JSON"),
        ("\ud800", "the handler's value is not JSON"),
    ],
)
def test_what_is_not_json_is_refused(value: object, message: str) -> None:
    with pytest.raises(UnfitValue, match=message):
        json_size(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "it holds a object"),
        ({1: "a"}, "an object's name is a int"),
        (2**53 + 1, "an integer beyond"),
    ],
)
def test_what_the_message_cannot_carry_is_refused(value: object, message: str) -> None:
    with pytest.raises(UnfitValue, match=message):
        fill_value(struct_pb2.Value(), value)


def test_the_deepest_value_allowed_can_be_parsed_inside_a_message() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = {"a": value}
    message = struct_pb2.Value()
    fill_value(message, value)
    wrapped = struct_pb2.ListValue(values=[struct_pb2.Value(list_value=struct_pb2.ListValue(values=[message]))])
    assert struct_pb2.ListValue.FromString(wrapped.SerializeToString()) == wrapped
    with pytest.raises(UnfitValue, match="more than 30 deep"):
        fill_value(struct_pb2.Value(), [value])


def test_the_size_is_that_of_compact_utf8_json() -> None:
    assert json_size({"a": "é"}) == len('{"a":"é"}'.encode())
