from __future__ import annotations

import json
import math
import struct

import pytest

from distributor.model.canonical_json import canonical_json
from distributor.model.json_value import JsonValue

NUMBERS = [
    # RFC 8785, appendix B: the bits of a number and its canonical form.
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_are_written_as_in_the_rfc(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == text.encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 2**53 + 1, -(2**53) - 1])
def test_numbers_without_an_exact_form_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON|canonical"):
        canonical_json({"a": [number]})


def test_the_sample_of_the_rfc() -> None:
    # RFC 8785, section 3.2.2.
    sample = json.loads(
        r"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"""
    )
    expected = (
        r'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA' + r"'B\"\\\\\"/" + '"}'
    )
    assert canonical_json(sample) == expected.encode()


def test_members_are_sorted_by_utf_16_code_units() -> None:
    # RFC 8785, section 3.2.3.
    sample = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical_json(sample)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([], "[]"),
        ((), "[]"),
        ([{}, [], ""], '[{},[],""]'),
        ({"b": 1, "a": {"d": 2.0, "c": None}}, '{"a":{"c":null,"d":2},"b":1}'),
        ("\x7f\u2028\b\f\t", '"\x7f\u2028\\b\\f\\t"'),
        (-1, "-1"),
        (100, "100"),
        (1e2, "100"),
        (-0.5, "-0.5"),
        (True, "true"),
    ],
)
def test_other_values(value: JsonValue, text: str) -> None:
    assert canonical_json(value) == text.encode()


@pytest.mark.parametrize("value", ["\ud800", {"\udc00": 1}])
def test_lone_surrogates_are_refused(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        canonical_json(value)
