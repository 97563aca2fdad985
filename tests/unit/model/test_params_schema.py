from __future__ import annotations

import time
from typing import Any

import pytest

from distributor.model.check_budget import CheckBudget, TooCostly, quick_budget
from distributor.model.command import InvalidField
from distributor.model.json_value import JsonValue
from distributor.model.params_schema import ParamsSchema, SchemaError

PROGRAM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "argv": {"type": "array", "items": {"type": "string", "pattern": "^[a-z/-]+$"}, "minItems": 1},
        "mode": {"enum": ["fast", "slow"]},
        "level": {"type": "integer", "minimum": 1},
    },
    "patternProperties": {"^x-": {"type": "string"}},
    "required": ["argv"],
    "additionalProperties": False,
}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "anyOf": [
                {"properties": {"child": {"$ref": "#/$defs/node"}}, "required": [name]} for name in ("left", "right")
            ]
        }
    },
}


def test_matching_params_pass() -> None:
    ParamsSchema(PROGRAM).check({"argv": ["ls", "-l"], "mode": "fast", "level": 2, "x-note": "any"})


@pytest.mark.parametrize(
    ("params", "field", "sentence"),
    [
        ({"argv": [1]}, "command.params.argv[0]", "must be of type string, not number"),
        ({"argv": ["LS"]}, "command.params.argv[0]", "must match the pattern ^[a-z/-]+$"),
        ({}, "command.params", "must have the member 'argv'"),
        ({"argv": ["ls"], "a b": 1}, "command.params['a b']", "is not a param of this command type"),
        ({"argv": ["ls"], "mode": "x"}, "command.params.mode", 'must be one of "fast", "slow"'),
        ({"argv": ["ls"], "level": 0}, "command.params.level", "must satisfy minimum 1"),
        ({"argv": []}, "command.params.argv", "must satisfy minItems 1"),
        ({"argv": ["ls"], "x-a": None}, "command.params.x-a", "must be of type string, not null"),
    ],
)
def test_a_fault_is_named_by_its_path_and_rule(params: dict[str, JsonValue], field: str, sentence: str) -> None:
    with pytest.raises(InvalidField) as caught:
        ParamsSchema(PROGRAM).check(params)
    assert caught.value.reason == "PARAMS_NOT_VALID"
    assert caught.value.field.replace("['x-a']", ".x-a") == field
    assert str(caught.value) == f"{caught.value.field} {sentence}"


@pytest.mark.parametrize("secret", [("argv",), ("argv", "0")])
def test_no_error_shows_what_is_secret(secret: tuple[str, ...]) -> None:
    with pytest.raises(InvalidField) as caught:
        ParamsSchema(PROGRAM).check({"argv": ["SECRET"]}, [secret])
    assert "SECRET" not in str(caught.value)
    assert "pattern" not in str(caught.value)
    assert caught.value.field == "command.params.argv" + ("[0]" if len(secret) == 2 else "")


def test_names_inside_a_secret_are_secret() -> None:
    schema = {"properties": {"auth": {"additionalProperties": False}}}
    with pytest.raises(InvalidField) as caught:
        ParamsSchema(schema).check({"auth": {"SECRET": 1}}, [("auth",)])
    assert "SECRET" not in str(caught.value) + caught.value.field


@pytest.mark.parametrize(
    "schema",
    [
        PROGRAM,
        {"anyOf": [{"type": "null"}, {"const": {"a": 1}}]},
        {"not": {}},
        {"maxProperties": 0},
        {"propertyNames": {"maxLength": 2}},
    ],
)
def test_no_error_quotes_a_value(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        ParamsSchema(schema).check({"argv": ["VALUE"]})
    assert "VALUE" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$ref": "https://example.org/s.json"}, "never fetched"),
        ({"$ref": "#/$defs/none"}, "a $ref to nothing"),
        ({"$id": "https://example.org/"}, "must not have an $id"),
        (
            {"properties": {"a": {"pattern": "(?=a)b"}}},
            "RE2 does not support: invalid perl operator: (?= (at /properties/a)",
        ),
        ({"patternProperties": {"(a)\\1": True}}, "RE2 does not support"),
        ({"type": "nope"}, "not a valid schema"),
        ({"allOf": [{"unevaluatedProperties": False}]}, "not supported (at /allOf/0)"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "must be of draft 2020-12"),
        ({"const": "x" * 300_000}, "at most 262,144 characters"),
    ],
)
def test_unusable_schemas_are_refused(schema: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SchemaError) as caught:
        ParamsSchema(schema)
    assert sentence in str(caught.value)


def deep(levels: int, leaf: JsonValue) -> dict[str, JsonValue]:
    params: dict[str, JsonValue] = {"leaf": leaf}
    for _ in range(levels):
        params = {"child": params}
    return params


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        pytest.param(TREE, deep(30, "x" * 200_000), id="branches that recurse"),
        pytest.param({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x"] * 100_000}, id="many values"),
        pytest.param(
            {"properties": {"a": {"allOf": [{"type": "string"}] * 200}}}, {"a": "x" * 200_000}, id="long text"
        ),
        pytest.param(
            {"patternProperties": {f"^{n}": {} for n in range(100)}},
            {str(n): n for n in range(10_000)},
            id="many patterns",
        ),
    ],
)
def test_a_costly_check_is_given_up(schema: dict[str, Any], params: dict[str, JsonValue]) -> None:
    compiled = ParamsSchema(schema)
    with pytest.raises(TooCostly):
        compiled.check(params)


def test_the_checks_of_one_call_share_a_budget() -> None:
    schema = ParamsSchema({"properties": {"a": {"items": {"type": "string"}}}})
    call = CheckBudget(25_000)
    params: dict[str, JsonValue] = {"a": ["x"] * 10_000}
    schema.check_within(CheckBudget(call=call), params)
    schema.check_within(CheckBudget(call=call), params)
    with pytest.raises(InvalidField) as caught:
        schema.check_within(CheckBudget(call=call), params)
    assert caught.value.reason == "PARAMS_TOO_COMPLEX"
    with pytest.raises(TooCostly):
        schema.check_within(quick_budget(), params)


def test_patterns_take_linear_time() -> None:
    schema = ParamsSchema({"properties": {"a": {"pattern": "^(a+)+$"}}})
    began = time.process_time()
    with pytest.raises(InvalidField):
        schema.check({"a": "a" * 200_000 + "b"})
    assert time.process_time() - began < 5


def test_unique_items_do_not_take_quadratic_time() -> None:
    schema = ParamsSchema({"properties": {"a": {"uniqueItems": True}}})
    items: list[JsonValue] = [{"n": n} for n in range(20_000)]
    began = time.process_time()
    schema.check({"a": items})
    assert time.process_time() - began < 10
    with pytest.raises(InvalidField):
        schema.check({"a": [*items, {"n": 7}]})
