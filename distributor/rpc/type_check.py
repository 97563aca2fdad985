"""Checks commands against the registered types: who may send them, with which params, and which params are secret."""

from __future__ import annotations

from collections.abc import Iterable

from distributor.errors import InvalidArgument, PermissionDenied
from distributor.identity.caller import Caller
from distributor.model.check_budget import CheckBudget
from distributor.model.command import InvalidField
from distributor.model.command_type import CommandType, CommandTypes, NotPermitted
from distributor.model.json_pointer import MASK, parse_pointers
from distributor.v1 import command_pb2
from distributor.wire.json_values import plain_struct
from distributor.wire.secret_params import is_masked, secret_steps

SECRET_PARAMS = "command.secret_params"


def permitted_type(caller: Caller, type_: str, types: CommandTypes) -> CommandType | None:
    """The registered type of a command, None if it is not registered. Raises PermissionDenied."""
    try:
        found = types.find(type_)
        if found is not None:
            found.check_sender(caller.principal, caller.roles)
    except NotPermitted as error:
        raise PermissionDenied(str(error), reason=error.reason, field=error.field) from error
    return found


def check_secret_params(pointers: Iterable[str]) -> None:
    """Raise InvalidArgument unless all pointers that a sender gives are valid."""
    try:
        parse_pointers(list(pointers), SECRET_PARAMS)
    except InvalidField as error:
        raise InvalidArgument(str(error), reason=error.reason, field=error.field) from error


def check_params(command: command_pb2.Command, found: CommandType, budget: CheckBudget) -> None:
    """Raise InvalidArgument unless the params match the schema of the type.

    Raises TooCostly if that exceeds a budget that is not final.
    """
    if found.schema is None:
        return
    secrets = (*found.secret_steps, *secret_steps(command))
    params = plain_struct(command.params)
    try:
        found.schema.check_within(budget, params, secrets)
    except InvalidField as error:
        raise InvalidArgument(str(error), reason=error.reason, field=error.field) from error


def check_secrets_given(command: command_pb2.Command) -> None:
    """Raise InvalidArgument if a secret is the mask that is shown in its place, as in a copy of a document."""
    if command.secret_params and is_masked(command.params, secret_steps(command)):
        raise InvalidArgument(
            f"command.params has {MASK} in place of a secret, which is never shown: give the secret itself, or retry"
            " the command, which keeps it",
            reason="SECRET_NOT_GIVEN",
            field="command.params",
        )


def mark_secrets(command: command_pb2.Command, found: CommandType) -> None:
    """Add to `command.secret_params` those that are secret in every command of the type."""
    command.secret_params.extend(one for one in found.secrets if one not in command.secret_params)
