"""The canonical form of a JSON value: JSON Canonicalization Scheme, RFC 8785.

Two equal values have the same bytes: members are sorted by the UTF-16 code units of their names, numbers are written as
in ECMAScript, text is UTF-8 with only the escapes that JSON requires.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from distributor.model.json_value import JsonValue

MAX_EXACT_INT: Final = 2**53
_LONGEST_PLAIN: Final = 21
"""ECMAScript writes numbers of up to so many digits before the point without an exponent."""
_SMALLEST_PLAIN: Final = -6
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def canonical_json(value: JsonValue) -> bytes:
    """Return the canonical form. Raises ValueError for NaN, infinities, lone surrogates and integers beyond 2**53."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode()


def _write(value: JsonValue, parts: list[str]) -> None:
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        parts.append(_text(value))
    elif isinstance(value, int | float):
        parts.append(_number(value))
    elif isinstance(value, Mapping):
        _write_object(value, parts)
    elif isinstance(value, Sequence):
        _write_list(value, parts)
    else:
        raise ValueError(f"a {type(value).__name__} is not JSON")


def _write_object(members: Mapping[str, JsonValue], parts: list[str]) -> None:
    separator = "{"
    for name in sorted(members, key=_utf16):
        parts += (separator, _text(name), ":")
        _write(members[name], parts)
        separator = ","
    parts.append("}" if members else "{}")


def _write_list(items: Sequence[JsonValue], parts: list[str]) -> None:
    separator = "["
    for item in items:
        parts.append(separator)
        _write(item, parts)
        separator = ","
    parts.append("]" if items else "[]")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _text(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    return _SHORT.get(letter) or f"\\u{ord(letter):04x}"


def _number(number: int | float) -> str:
    """Write a number like ECMAScript's Number::toString, which also has the fewest digits that identify it."""
    if isinstance(number, int):
        if not -MAX_EXACT_INT <= number <= MAX_EXACT_INT:
            raise ValueError("an integer beyond 2**53 has no exact canonical form")
        return str(number)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not JSON")
    if number == 0:
        return "0"
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # The number is 0.digits times ten to the power of point.
    point = len(digits) - len(fraction) + int(exponent or 0)
    digits = digits.rstrip("0")
    return ("-" if number < 0 else "") + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    if len(digits) <= point <= _LONGEST_PLAIN:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _LONGEST_PLAIN:
        return f"{digits[:point]}.{digits[point:]}"
    if _SMALLEST_PLAIN < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
