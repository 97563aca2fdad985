"""The tables [types.NAME] of a policy file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from distributor.model.command import COMMAND_TYPE_PATTERN, InvalidField
from distributor.model.command_type import CommandType, CommandTypes
from distributor.model.json_pointer import Steps, parse_pointers
from distributor.settings.policy_text import PolicyText, json_file

if TYPE_CHECKING:
    from distributor.model.params_schema import ParamsSchema

MAX_TYPES: Final = 1_000
ROLES: Final = ("viewer", "operator", "admin", "delegate")
_KEYS: Final = ("schema", "roles", "callers", "agents", "labels", "secret")


def command_types(text: PolicyText) -> CommandTypes:
    """Read the command types of a policy. Raises ConfigurationError."""
    unlisted = text.content.get("unlisted", "allow")
    if unlisted not in ("allow", "refuse"):
        text.refuse("", "unlisted", 'must be "allow" or "refuse"')
    types = {name: _command_type(text, name, table) for name, table in text.tables("types")}
    if len(types) > MAX_TYPES:
        text.refuse("types", "", f"has {len(types):,} types, the limit is {MAX_TYPES:,}")
    return CommandTypes(types, unlisted == "refuse")


def _command_type(text: PolicyText, name: str, content: Mapping[str, Any]) -> CommandType:
    table = f"types.{name}"
    if not COMMAND_TYPE_PATTERN.fullmatch(name):
        text.refuse(table, "", "must be named by a letter and up to 63 of A-Z a-z 0-9 . _ -")
    text.check_keys(table, content, _KEYS)
    roles = text.text_list(table, content, "roles")
    for role in roles:
        if role not in ROLES:
            text.refuse(table, "roles", f"has the unknown role {role!r}; known are {', '.join(ROLES)}")
    secrets = text.text_list(table, content, "secret")
    return CommandType(
        name,
        _schema(text, table, content),
        frozenset(roles),
        text.text_list(table, content, "callers"),
        text.text_list(table, content, "agents"),
        text.text_table(table, content, "labels"),
        secrets,
        _secret_steps(text, table, secrets),
    )


def _schema(text: PolicyText, table: str, content: Mapping[str, Any]) -> ParamsSchema | None:
    if "schema" not in content:
        return None
    # Slow to import, and needed only with a schema.
    from distributor.model.params_schema import ParamsSchema, SchemaError

    schema = content["schema"]
    try:
        if isinstance(schema, str):
            schema = json_file(text, schema)
        if not isinstance(schema, dict):
            raise SchemaError("must be a JSON Schema: an object, or the name of a file with one")
        return ParamsSchema(schema)
    except ValueError as error:
        text.refuse(table, "schema", str(error))


def _secret_steps(text: PolicyText, table: str, secrets: tuple[str, ...]) -> tuple[Steps, ...]:
    try:
        return parse_pointers(secrets, "secret")
    except InvalidField as error:
        text.refuse(table, "secret", str(error).removeprefix("secret "))
