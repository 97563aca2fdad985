"""A JSON Schema (draft 2020-12) for the params of a command type, checked at a bounded cost.

Params come from anyone who may queue, so neither they nor their combination with a schema may cost much:

- Each keyword that is applied to a value costs steps, more for longer values, and a check has a budget of them. Without
  it, a schema that refers to itself in both branches of an `anyOf` takes time exponential in the depth of the params.
- Patterns are matched by RE2 in linear time. It has no look-around and no back references.
- `uniqueItems` sorts. `unevaluatedProperties` and `unevaluatedItems` would evaluate subschemas again: not supported.
- No `$ref` leaves the schema, so nothing is ever fetched.

Errors name the path and the rule, never a value: it may be secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import jsonschema
import re2
import referencing.exceptions
import referencing.jsonschema
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from distributor.model.check_budget import CheckBudget, TooCostly
from distributor.model.command import InvalidField, shown
from distributor.model.json_pointer import Steps, covered
from distributor.model.json_value import JsonValue, step

MAX_SCHEMA_CHARS: Final = 262_144
PARAMS: Final = "command.params"

_DIALECTS: Final = ("https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#")
_UNSUPPORTED: Final = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")
_SUBSCHEMAS: Final = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_SUBSCHEMA_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SUBSCHEMA_MAPS: Final = ("$defs", "dependentSchemas", "patternProperties", "properties")
_TEXT_PER_STEP: Final = 256
_ITEMS_PER_STEP: Final = 16
_MAX_PATH_CHARS: Final = 200
_MAX_RULE_CHARS: Final = 120

_budget: ContextVar[CheckBudget] = ContextVar("budget of the check")


class SchemaError(ValueError):
    """A schema cannot be used; `str()` says why."""


class ParamsSchema:
    """A compiled schema. Immutable, usable on any thread."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises SchemaError."""
        _check_schema(schema)
        self._validator = _BoundedValidator(schema, registry=referencing.jsonschema.EMPTY_REGISTRY)
        try:
            self.check({})
        except InvalidField:
            pass
        except TooCostly as error:
            raise SchemaError("refers to itself without end") from error

    def check(
        self, params: Mapping[str, JsonValue], secrets: Iterable[Steps] = (), budget: CheckBudget | None = None
    ) -> None:
        """Raise InvalidField, with the path of a fault, unless `params` match. Does not name what is in `secrets`.

        Raises TooCostly if it exceeds `budget`. Without one, a check takes up to a second.
        """
        token = _budget.set(budget or CheckBudget())
        try:
            # The faults of all values would cost memory; the first suffices.
            fault = next(self._validator.iter_errors(_quiet(params)), None)
            if fault is None:
                return
            raise _invalid(best_match(iter([fault])) or fault, tuple(secrets))
        except RecursionError as error:
            raise TooCostly from error
        finally:
            _budget.reset(token)

    def check_within(self, budget: CheckBudget, params: Mapping[str, JsonValue], secrets: Iterable[Steps] = ()) -> None:
        """Like `check`, but raise InvalidField for params that exceed a final budget."""
        try:
            self.check(params, secrets, budget)
        except TooCostly as error:
            if not budget.final:
                raise
            raise InvalidField(
                PARAMS, "PARAMS_TOO_COMPLEX", f"{PARAMS} take too long to check against the schema of the command type"
            ) from error


# The schema


def _check_schema(schema: Mapping[str, Any]) -> None:
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
            raise SchemaError(f"must be at most {MAX_SCHEMA_CHARS:,} characters as JSON")
    except (TypeError, RecursionError) as error:
        raise SchemaError("must be JSON, and must not nest too deeply") from error
    if schema.get("$schema", _DIALECTS[0]) not in _DIALECTS:
        raise SchemaError(f"must be of draft 2020-12, not {shown(str(schema['$schema']), 80)}")
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        at = "".join(f"/{part}" for part in error.absolute_path)
        raise SchemaError(f"is not a valid schema: {error.message[:200]}" + (f" (at {at})" if at else "")) from error
    resolver = referencing.jsonschema.EMPTY_REGISTRY.resolver_with_root(
        referencing.jsonschema.DRAFT202012.create_resource(schema)
    )
    for place, subschema in _subschemas(schema, ""):
        _check_subschema(place, subschema, resolver)


def _check_subschema(place: str, schema: Mapping[str, Any], resolver: Any) -> None:
    where = f" (at {place})" if place else ""
    for keyword in _UNSUPPORTED:
        if keyword in schema:
            raise SchemaError(f"has {keyword}, which is not supported{where}")
    if "$id" in schema:
        raise SchemaError(f"must not have an $id{where}")
    if "$ref" in schema:
        if not schema["$ref"].startswith("#"):
            raise SchemaError(f"has a $ref to another document, which is never fetched{where}")
        try:
            resolver.lookup(schema["$ref"])
        except referencing.exceptions.Unresolvable as error:
            raise SchemaError(f"has a $ref to nothing: {shown(schema['$ref'], 80)}{where}") from error
    for pattern in (*schema.get("patternProperties", ()), *([schema["pattern"]] if "pattern" in schema else ())):
        try:
            _compiled(pattern)
        except re2.error as error:
            (text,) = error.args
            raise SchemaError(
                f"has the pattern {shown(pattern, 80)}, which RE2 does not support: {text.decode(errors='replace')}"
                f"{where}"
            ) from error


def _subschemas(schema: object, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for keyword in _SUBSCHEMAS:
        yield from _subschemas(schema.get(keyword), f"{place}/{keyword}")
    for keyword in _SUBSCHEMA_LISTS:
        for index, one in enumerate(schema.get(keyword, ())):
            yield from _subschemas(one, f"{place}/{keyword}/{index}")
    for keyword in _SUBSCHEMA_MAPS:
        for name, one in schema.get(keyword, {}).items():
            yield from _subschemas(one, f"{place}/{keyword}/{name}")


# The check


class _Text(str):
    """Text that no error message quotes: values may be secret, and long."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "…"


class _Object(dict[Any, Any]):
    __slots__ = ()
    __repr__ = _Text.__repr__


class _List(list[Any]):
    __slots__ = ()
    __repr__ = _Text.__repr__


def _quiet(value: JsonValue) -> Any:
    if isinstance(value, str):
        return _Text(value)
    if isinstance(value, Mapping):
        return _Object((_Text(name), _quiet(item)) for name, item in value.items())
    if isinstance(value, Sequence):
        return _List(map(_quiet, value))
    return value


def _spend(steps: int) -> None:
    _budget.get().spend(steps)


@cache
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1_048_576
    return re2.compile(pattern, options)


def _counted(check: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, rule: Any, instance: Any, schema: Any) -> Any:
        steps = 1
        if isinstance(instance, str):
            steps += len(instance) // _TEXT_PER_STEP
        elif isinstance(instance, dict | list):
            steps += len(instance) // _ITEMS_PER_STEP
        _spend(steps)
        return check(validator, rule, instance, schema)

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError("")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            _spend(1)
            if _compiled(pattern).search(name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", ())
    for name in _additional(instance, schema.get("properties", {}), patterns):
        if rule is False:
            yield ValidationError("", path=[name])
            return
        yield from validator.descend(instance[name], rule, path=name)


def _additional(instance: Mapping[str, Any], known: Mapping[str, Any], patterns: Iterable[str]) -> Iterator[str]:
    for name in instance:
        if name in known:
            continue
        for pattern in patterns:
            _spend(1)
            if _compiled(pattern).search(name):
                break
        else:
            yield name


def _unique_items(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if rule and isinstance(instance, list):
        texts = [json.dumps(item, sort_keys=True) for item in instance]
        _spend(sum(map(len, texts)) // _TEXT_PER_STEP)
        if len(set(texts)) < len(texts):
            yield ValidationError("")


_KEYWORDS: Final[dict[str, Callable[..., Any]]] = {
    **Draft202012Validator.VALIDATORS,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_BoundedValidator: Final = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {keyword: _counted(check) for keyword, check in _KEYWORDS.items()}
)


# The error


def _invalid(fault: ValidationError, secrets: tuple[Steps, ...]) -> InvalidField:
    path = list(fault.absolute_path)
    hidden = covered(path, secrets)
    if hidden is not None:
        return InvalidField(_path(path[:hidden]), "PARAMS_NOT_VALID", f"{_path(path[:hidden])} is not valid (secret)")
    field = _path(path)
    return InvalidField(field, "PARAMS_NOT_VALID", f"{field} {_rule(fault)}")


def _path(path: Sequence[str | int]) -> str:
    text = PARAMS + "".join(f"[{part}]" if isinstance(part, int) else step(str(part)) for part in path)
    return text if len(text) <= _MAX_PATH_CHARS else f"{text[:_MAX_PATH_CHARS]}…"


def _rule(fault: ValidationError) -> str:
    rule: Any = fault.validator_value
    keyword: Any = fault.validator
    instance: Any = fault.instance
    match keyword:
        case "type":
            names = " or ".join([rule] if isinstance(rule, str) else rule)
            return f"must be of type {names}, not {_type(instance)}"
        case "required":
            missing = next((name for name in rule if name not in instance), "")
            return f"must have the member {shown(missing, 80)}"
        case "additionalProperties":
            return "is not a param of this command type"
        case "enum":
            return f"must be one of {_cut(', '.join(map(json.dumps, rule)))}"
        case "pattern":
            return f"must match the pattern {_cut(rule)}"
        case "anyOf" | "oneOf" | "not":
            return f"does not satisfy {keyword} of the schema"
        case None:
            return "must not be given"
        case _:
            return f"must satisfy {keyword} {_cut(json.dumps(rule))}"


def _type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_RULE_CHARS else f"{text[:_MAX_RULE_CHARS]}…"
