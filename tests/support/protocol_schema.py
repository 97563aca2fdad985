"""Validates documents and messages against the JSON Schema of the dashboard protocol."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator

from distributor.bridge import app

SCHEMA: Final[dict[str, Any]] = json.loads(
    (app.PAGE.parent / "bridge" / "protocol.schema.json").read_text(encoding="utf-8")
)


def check(document: Any, definition: str) -> None:
    """Fail unless `document` is as the schema's `definition` says."""
    _validator(definition).validate(document)


def check_message(message: dict[str, Any]) -> None:
    """Fail unless a message is as the schema says of its type."""
    check(message, _DEFINITIONS[message["type"]])


def types_of(definition: str) -> set[str]:
    """The message types that are listed under clientMessage or serverMessage."""
    names = [reference["$ref"].rpartition("/")[2] for reference in SCHEMA["$defs"][definition]["oneOf"]]
    return {SCHEMA["$defs"][name]["properties"]["type"]["const"] for name in names}


@cache
def _validator(definition: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{definition}"}]})


_DEFINITIONS: Final = {
    content["properties"]["type"]["const"]: name
    for name, content in SCHEMA["$defs"].items()
    if "const" in content.get("properties", {}).get("type", {})
}
