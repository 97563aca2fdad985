"""Plain JSON values to the wire and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.client.json_values import MAX_DEPTH, MAX_EXACT_INT, plain_struct, struct_of
from distributor.errors import InvalidArgument

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_EXACT_INT, MAX_EXACT_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_goes_out_comes_back(params: dict[str, Any]) -> None:
    wire = struct_of(params, "params").SerializeToString()

    assert plain_struct(type(struct_of({}, "")).FromString(wire)) == params


def test_whole_numbers_come_back_as_int() -> None:
    values = plain_struct(struct_of({"a": 3, "c": True, "b": 3.5}, "params"))

    assert [type(values[name]) for name in values] == [int, float, bool], "and names come in order"


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth > 1 else {}


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"a": {1, 2}}, "p.a", "is a set, which is not JSON"),
        ({"a": b"bytes"}, "p.a", "is a bytes, which is not JSON"),
        ({"a": [1, {"b": object()}]}, "p.a[1].b", "is a object, which is not JSON"),
        ({"a": {1: "x"}}, "p.a", "has the name 1, which is not text"),
        ({"a": float("nan")}, "p.a", "is nan, which JSON has no number for"),
        ({"a": MAX_EXACT_INT + 1}, "p.a", "send it as text"),
        ({"a": "\ud800"}, "p.a", "is not valid Unicode text"),
        (nested(MAX_DEPTH + 1), "p" + ".a" * MAX_DEPTH, "nests deeper than 32 levels"),
    ],
)
def test_what_would_be_lost_is_refused_with_its_place(params: Any, field: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        struct_of(params, "p")

    assert caught.value.field == field


def test_the_deepest_params_fit_into_a_message() -> None:
    struct = struct_of(nested(MAX_DEPTH), "p")

    assert type(struct).FromString(struct.SerializeToString()) == struct
