"""Values that break careless code: those that must be preserved exactly, and those that every entry refuses."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

from google.protobuf.struct_pb2 import Struct

from distributor.model.json_value import JsonValue
from distributor.wire.json_values import fill_struct

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


class Refused(NamedTuple):
    """A value that no entry takes. `path` leads from the value to its fault, `sentence` follows it."""

    value: Any
    path: str
    sentence: str
    reason: str = "INVALID_PARAMS"


_ROUNDED: Final = "is an integer beyond ±2^53, which would be rounded: send it as text"
_DEEP: Final = "nests deeper than 32 levels"

REFUSED_BY_GRPC: Final = {
    "NaN": Refused(math.nan, "", "is nan, which JSON cannot represent"),
    "Infinity": Refused(math.inf, "", "is inf, which JSON cannot represent"),
    "-Infinity": Refused({"a": [0, {"b": [-math.inf]}]}, ".a[1].b[0]", "is -inf, which JSON cannot represent"),
    "deep objects": Refused(_nested(32, "o"), ".k" * 31, _DEEP, "PARAMS_TOO_DEEP"),
    "deep lists": Refused(_nested(32, "l"), "[0]" * 31, _DEEP, "PARAMS_TOO_DEEP"),
    "deep mixed": Refused(_nested(32, "lo"), ".k[0]" * 15 + ".k", _DEEP, "PARAMS_TOO_DEEP"),
}
"""By name: values that a `Struct` can carry. Params are a level themselves, so 32 more are one too many."""

REFUSED: Final = REFUSED_BY_GRPC | {
    "2^53+1": Refused(2**53 + 1, "", _ROUNDED),
    "-2^53-1": Refused([-(2**53) - 1], "[0]", _ROUNDED),
    "10^16": Refused(10**16, "", _ROUNDED),
    "17 digits": Refused({"id": 12_345_678_901_234_567}, ".id", _ROUNDED),
    "lone high surrogate": Refused("a\ud83d", "", "is not valid Unicode text"),
    "lone low surrogate": Refused([["\udc69"]], "[0][0]", "is not valid Unicode text"),
    "lone surrogate as key": Refused({"a": {"\ud800": 1}}, ".a", "has a name that is not valid Unicode"),
}
"""By name: what JSON text and Python's values can say besides."""


def sized(params_bytes: int) -> dict[str, JsonValue]:
    """Params whose `Struct` takes this many bytes: a large name and a small value."""
    params = Struct()
    fill_struct(params, {"k" * LARGE: ""}, "params")
    return {"k" * (LARGE + params_bytes - params.ByteSize()): ""}
