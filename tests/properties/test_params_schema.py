from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.model.check_budget import TooCostly
from distributor.model.command import InvalidField
from distributor.model.json_value import JsonValue
from distributor.model.params_schema import ParamsSchema

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
PARAMS = st.dictionaries(st.sampled_from("abc") | TEXT, VALUES, max_size=4)
NUMBERS = st.integers(0, 4)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"]),
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "const": VALUES,
            "pattern": st.sampled_from(["^a", "(a|b)*$", "\\d+"]),
            "minLength": NUMBERS,
            "maxItems": NUMBERS,
            "multipleOf": st.sampled_from([1, 0.5, 1e-300]),
            "minimum": NUMBERS,
            "uniqueItems": st.booleans(),
            "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
            "additionalProperties": inner,
            "propertyNames": inner,
            "items": inner,
            "contains": inner,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "$ref": st.just("#/$defs/any"),
        },
    )


SCHEMAS = st.recursive(st.booleans(), combined, max_leaves=6).filter(lambda schema: isinstance(schema, dict))


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, PARAMS)
def test_params_match_or_are_refused(schema: dict[str, Any], params: dict[str, JsonValue]) -> None:
    """Whatever the schema and the params, a check ends, and nothing but a refusal comes of it."""
    compiled = ParamsSchema(schema | {"$defs": {"any": {"type": ["object", "string", "number"]}}})
    refusal: InvalidField | None = None
    try:
        compiled.check(params)
    except InvalidField as error:
        refusal = error
    except TooCostly:
        pass
    assert refusal is None or str(refusal).startswith(refusal.field)
    assert refusal is None or refusal.field.startswith("command.params")
