"""Values that break careless code and must be preserved exactly."""

from __future__ import annotations

import json
from typing import Any, Final

from distributor.model.json_value import JsonValue

LARGE: Final = 250_000
"""Characters that still fit into 256 KiB of params."""


def _nested(depth: int, kinds: str) -> JsonValue:
    """Objects and lists in turn, as `kinds` says, `depth` levels of them."""
    value: JsonValue = "inmost"
    for level in range(depth):
        value = {"k": value} if kinds[level % len(kinds)] == "o" else [value]
    return value


_TEXTS: Final = {
    "empty": "",
    "BOM": "\ufeffx",
    "NUL": "a\0b",
    "bidi": "a\u202eb\u2066c",
    "line separator": "a\u2028b\u2029c\x85d",
    "emoji": "\U0001f469\u200d\U0001f4bb",
    "combining": "e\u0301\u0300 != \u00e9",
    "escape": "\x1bc\x1b[2J\x1b]0;t\x07\x9b31m",
    "quotes": "\"'\\</script>$(x)`\r\n\t",
    "prototype": "__proto__",
}
_NUMBERS: Final[dict[str, int | float]] = {
    "0": 0,
    "-0": -0.0,
    "0.1": 0.1,
    "1e21": 1e21,
    "1e-7": 1e-7,
    "2^53-1": 2**53 - 1,
    "2^53": 2**53,
    "-2^53": -(2**53),
    "1e16": 1e16,
    "1e308": 1e308,
    "5e-324": 5e-324,
    "16 digits": 1_234_567_890_123_456,
    "17 digits": 0.12345678901234567,
}

EXACT: Final[dict[str, JsonValue]] = {
    **_NUMBERS,
    **{f"text {name}": text for name, text in _TEXTS.items()},
    **{f"key {name}": {text: 1} for name, text in _TEXTS.items()},
    "depth objects": _nested(31, "o"),
    "depth lists": _nested(31, "l"),
    "depth mixed": _nested(31, "ol"),
    "empty object": {},
    "empty list": [],
    "constants": [None, True, False, {"null": None}],
}
"""By name: each comes out as it went in. Params are a level themselves, so 31 more are the most."""

LARGE_ONES: Final[dict[str, JsonValue]] = {"large text": "\u20ac" * (LARGE // 3), "large key": {"k" * LARGE: 1}}
"""By name, as EXACT: too large to repeat for each entry."""


def spelt(value: Any) -> str:
    """JSON text that tells any two different values apart: -0 from 0, 1 from true, 1e16 from 10^16."""
    return json.dumps(value, sort_keys=True)
