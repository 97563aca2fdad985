"""The schema, docs/dashboards.md and the code say the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from distributor.bridge import requests
from distributor.errors import InvalidArgument
from tests.support.protocol_schema import SCHEMA, check, check_message, types_of
from tests.support.source_tree import ROOT

PAGE = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
EXAMPLES = [
    text for pattern in (r"```json\n(.*?)```", r"`(\{\"[^`]*\})`") for text in re.findall(pattern, PAGE, re.DOTALL)
]


def whole(example: str) -> Any:
    return json.loads(example.replace("01999bd2-…", "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_as_the_schema_says(example: str) -> None:
    document = whole(example)
    if "version" in document and str(document.get("type", "")).islower():
        check_message(document)
        return
    definitions = ["command", "agent", "result", "apiCommands", "apiCommand", "apiAgents", "apiError", "subscriptions"]
    definitions.append("devToken")
    assert any(fits(document, definition) for definition in definitions), document


def test_every_message_type_has_a_chapter_and_an_example() -> None:
    shown = {whole(example).get("type") for example in EXAMPLES}
    for type_ in types_of("clientMessage") | types_of("serverMessage"):
        assert f"### `{type_}`" in PAGE
        assert type_ in shown


@pytest.mark.parametrize("type_", sorted(types_of("clientMessage")))
def test_the_bridge_reads_what_the_schema_lists(type_: str) -> None:
    for example in EXAMPLES:
        document = whole(example)
        if document.get("type") == type_ and "version" in document:
            requests.parse(document)


@pytest.mark.parametrize("type_", sorted(types_of("clientMessage")))
def test_both_refuse_the_same_fields(type_: str) -> None:
    """A field of the wrong type is refused by the schema and by the bridge."""
    name = next(n for n, d in SCHEMA["$defs"].items() if d.get("properties", {}).get("type") == {"const": type_})
    good = next(whole(example) for example in EXAMPLES if whole(example).get("type") == type_)
    for field in SCHEMA["$defs"][name]["properties"]:
        if field in ("clientInfo", "type", "subscribe"):
            continue
        bad = good | {field: [7]}
        with pytest.raises(ValidationError):
            check(bad, name)
        if field in ("commandType", "params"):
            bad.pop("command", None)
        with pytest.raises(InvalidArgument):
            requests.parse(bad)


def fits(document: Any, definition: str) -> bool:
    if definition == "devToken":
        return set(document) == {"token", "expireTime"}
    try:
        check(document, definition)
    except ValidationError:
        return False
    return True
