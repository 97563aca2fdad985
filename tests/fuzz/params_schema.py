"""The schema of the params of a registered command type, with what schemas of operators have."""

from __future__ import annotations

from typing import Any, Final

TYPE: Final = "FUZZED"
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[a-z /]+$"},
        "lines": {"type": "integer", "minimum": 1, "maximum": 1_000},
        "ratio": {"type": "number", "minimum": 0, "maximum": 1},
        "mode": {"enum": ["fast", "slow", None]},
        "kind": {"const": "full"},
        "when": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 9}, {"type": "boolean"}]},
        "names": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "uniqueItems": True},
        "deeper": {"$ref": "#/$defs/node"},
    },
    "required": ["path"],
    "additionalProperties": False,
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": {"type": "boolean"}, "next": {"type": "array", "items": {"type": "boolean"}}},
            "required": ["value"],
        }
    },
}
