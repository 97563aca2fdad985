from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.canonical_json import canonical_json
from distributor.model.json_value import JsonValue

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=20
)


@given(VALUES)
def test_the_canonical_form_means_the_value(value: JsonValue) -> None:
    assert json.loads(canonical_json(value), parse_int=float) == value


@given(VALUES)
def test_the_canonical_form_is_its_own(value: JsonValue) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text, parse_int=float)) == text


@given(st.dictionaries(TEXT, VALUES, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(members: dict[str, JsonValue], shuffler: random.Random) -> None:
    names = list(members)
    shuffler.shuffle(names)
    assert canonical_json({name: members[name] for name in names}) == canonical_json(members)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_have_the_shortest_form_that_identifies_them(number: float) -> None:
    text = canonical_json(number).decode()
    assert float(text) == number
    digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 17
