from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.command import MAX_PARAMS_SUMMARY_BYTES
from distributor.model.json_value import JsonValue
from distributor.wire.params_summary import params_summary

VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def struct(params: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(params)
    return message


@pytest.mark.parametrize(
    ("params", "summary"),
    [
        ({}, ""),
        ({"argv": ["sh", "-c", "echo hi; exit 3"], "cwd": "/tmp"}, "sh -c 'echo hi; exit 3'"),
        ({"argv": []}, ""),
        ({"argv": "no list"}, "argv='no list'"),
        (
            {"reason": "test", "count": 2, "ratio": 0.25, "force": True, "none": None},
            "count=2 force=true none=null ratio=0.25 reason=test",
        ),
        ({"deep": {"a": 1}, "many": [1, 2]}, "deep={…} many=[…]"),
        ({"argv": ["printf", "a\tb\nc\x1b[31m"]}, "printf 'a b c?[31m'"),
        ({"text": "right\u202eleft"}, "text='right?left'"),
        ({"text": "x" * 100}, "text=" + "x" * 52 + "…"),
        ({"text": "é" * 100}, "text='" + "é" * 25 + "…"),
    ],
)
def test_params_as_one_would_type_them(params: dict[str, Any], summary: str) -> None:
    assert params_summary(struct(params)) == summary


@given(st.dictionaries(st.text(), VALUES) | st.fixed_dictionaries({"argv": st.lists(VALUES)}))
def test_it_is_short_and_on_one_line_whatever_the_params(params: dict[str, JsonValue]) -> None:
    summary = params_summary(struct(params))
    assert summary.isprintable()
    assert len(summary.encode()) <= MAX_PARAMS_SUMMARY_BYTES


def test_of_large_params_only_the_beginning_is_read() -> None:
    names = {f"n{number:05}": "v" * 1_000 for number in range(5_000)}
    assert params_summary(struct(names)) == f"n00000={'v' * 50}…"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1234567890123456, "1234567890123456"),
        (9007199254740991, "9007199254740991"),
        (-9007199254740991, "-9007199254740991"),
        (-0.0, "-0.0"),
        (0, "0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (0.30000000000000004, "0.30000000000000004"),
    ],
)
def test_numbers_are_exact(number: float, text: str) -> None:
    params = Struct()
    params.update({"id": number})
    assert params_summary(params) == f"id={text}"
