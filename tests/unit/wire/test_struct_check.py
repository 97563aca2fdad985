from __future__ import annotations

import math
import time
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from distributor.wire.json_values import MAX_DEPTH, NotJson, TooDeep, fill_struct
from distributor.wire.struct_check import MAX_PATH_CHARS, check_struct, check_value


def struct(**fields: Any) -> Struct:
    """Of what JSON has, and numbers that it has not."""
    message = Struct()
    for name, item in fields.items():
        message.fields[name].CopyFrom(value(item))
    return message


def value(plain: Any) -> Value:
    if isinstance(plain, dict):
        return Value(struct_value=struct(**plain))
    if isinstance(plain, list):
        return Value(list_value=ListValue(values=[value(item) for item in plain]))
    if isinstance(plain, float):
        return Value(number_value=plain)
    return Value(string_value=plain)


def objects(levels: int) -> Struct:
    inner = struct(x="inmost")
    for _ in range(levels - 1):
        inner = Struct(fields={"a": Value(struct_value=inner)})
    return inner


def lists(levels: int) -> Value:
    inner = Value(list_value=ListValue(values=[Value(number_value=1.0)]))
    for _ in range(levels - 1):
        inner = Value(list_value=ListValue(values=[inner]))
    return inner


@pytest.mark.parametrize(
    ("message", "path", "what"),
    [
        (struct(a=["x", 1.0, math.nan]), "p.a[2]", "is nan, which JSON cannot represent"),
        (struct(a={"b": [{"c": math.inf}]}), "p.a.b[0].c", "is inf, which JSON cannot represent"),
        (struct(**{"two words": -math.inf}), "p['two words']", "is -inf, which JSON cannot represent"),
    ],
)
def test_a_number_that_json_has_not_is_found_with_its_place(message: Struct, path: str, what: str) -> None:
    with pytest.raises(NotJson, match="JSON cannot represent") as caught:
        check_struct(message, "p")
    assert (caught.value.path, str(caught.value)) == (path, f"{path} {what}")


def test_the_largest_and_smallest_numbers_pass() -> None:
    check_struct(struct(a=[1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -0.0]), "p")


@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1, MAX_DEPTH])
def test_what_nests_as_deep_as_the_limit_passes(levels: int) -> None:
    check_struct(objects(levels), "p")
    check_value(lists(levels), "p")
    check_value(Value(struct_value=objects(levels)), "p")
    if levels > 1:
        check_struct(Struct(fields={"a": lists(levels - 1)}), "p")


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (objects(MAX_DEPTH + 1), "p" + ".a" * MAX_DEPTH),
        (Struct(fields={"a": lists(MAX_DEPTH)}), "p.a" + "[0]" * (MAX_DEPTH - 1)),
    ],
    ids=["objects", "lists"],
)
def test_one_level_more_is_refused_with_its_place(message: Struct, path: str) -> None:
    with pytest.raises(TooDeep) as caught:
        check_struct(message, "p")
    assert (caught.value.path, str(caught.value)) == (path, f"{path} nests deeper than 32 levels")


def test_a_value_counts_its_own_level() -> None:
    with pytest.raises(TooDeep):
        check_value(lists(MAX_DEPTH + 1), "p")
    with pytest.raises(TooDeep):
        check_value(Value(struct_value=objects(MAX_DEPTH + 1)), "p")


def test_it_counts_as_the_writer_does() -> None:
    """What `fill_struct` lets out, the other side lets in, and no more."""
    plain: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        plain = {"a": plain}
    message = Struct()
    fill_struct(message, plain, "p")
    check_struct(message, "p")
    with pytest.raises(NotJson):
        fill_struct(Struct(), {"a": plain}, "p")
    with pytest.raises(TooDeep):
        check_struct(Struct(fields={"a": Value(struct_value=message)}), "p")


def test_a_long_place_is_cut() -> None:
    message = struct(x=math.nan)
    for _ in range(20):
        message = Struct(fields={"n" * 40: Value(struct_value=message)})
    with pytest.raises(NotJson) as caught:
        check_struct(message, "p")
    assert len(caught.value.path) == MAX_PATH_CHARS + 1


def cost(count: int) -> float:
    """CPU seconds for this many values, the least of some tries."""
    message = ListValue.FromString(b"\x0a\x00" * count)
    wrapped = Value(list_value=message)

    def once() -> float:
        begun = time.thread_time()
        check_value(wrapped, "p")
        return time.thread_time() - begun

    return min(once() for _ in range(5))


def test_the_cost_grows_no_faster_than_the_number_of_values() -> None:
    assert cost(20_000) <= 3 * cost(10_000)
