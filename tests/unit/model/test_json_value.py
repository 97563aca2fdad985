from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.json_value import whole_number


@given(st.integers().filter(bool))
def test_whole_numbers_are_exact(number: int) -> None:
    assert whole_number(str(number)) == number


@pytest.mark.parametrize(("text", "sign"), [("0", 1), ("-0", -1)])
def test_zero_keeps_its_sign(text: str, sign: int) -> None:
    number = json.loads(text, parse_int=whole_number)
    assert (number, math.copysign(1, number)) == (0, sign)


@pytest.mark.parametrize("sign", ["", "-"])
def test_more_digits_than_python_converts_are_too_large_still(sign: str) -> None:
    number = json.loads(f"[{sign}{'9' * 1_000_000}]", parse_int=whole_number)[0]
    assert abs(number) > 10**398
    assert (number < 0) == bool(sign)
