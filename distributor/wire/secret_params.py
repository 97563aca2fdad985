"""Hides the secret params of a command message from everyone but its agent.

Secrets are what `Command.secret_params` points to. Where params have another form than a pointer expects, the value on
the way is hidden as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.struct_pb2 import Struct, Value

from distributor.model.command import InvalidField
from distributor.model.json_pointer import MASK, Steps, parse_pointer
from distributor.v1 import command_pb2


def secret_steps(command: command_pb2.Command) -> tuple[Steps, ...]:
    """The steps of each pointer in `command.secret_params`; invalid ones, which no server stores, are left out."""
    found = []
    for pointer in command.secret_params:
        try:
            found.append(parse_pointer(pointer, "secret_params"))
        except InvalidField:
            continue
    return tuple(found)


def hide_secrets(command: command_pb2.Command) -> None:
    """Replace the secrets of `command` by MASK, in place.

    Its signature goes too: whoever has the public key could try guesses of a secret on it.
    """
    if command.secret_params:
        mask(command.params, secret_steps(command))
        command.signature.ClearField("value")


def without_secrets(command: command_pb2.Command) -> Struct:
    """The params of `command` without its secrets; the params themselves if it has none."""
    return shown_params(command.params, secret_steps(command))


def shown_params(params: Struct, secrets: Sequence[Steps]) -> Struct:
    """A copy of `params` without `secrets`; the params themselves if there are none."""
    if not secrets:
        return params
    shown = Struct()
    shown.CopyFrom(params)
    mask(shown, secrets)
    return shown


def is_masked(params: Struct, secrets: Iterable[Steps]) -> bool:
    """Whether a secret is MASK: a caller has sent back what was shown to it."""
    return any(_is_masked(params, steps) for steps in secrets)


def _is_masked(params: Struct, steps: Steps) -> bool:
    value = params.fields.get(steps[0])
    for step in steps[1:]:
        if value is None or value.WhichOneof("kind") == "string_value":
            break
        if value.WhichOneof("kind") == "list_value":
            items = value.list_value.values
            value = items[int(step)] if step.isdecimal() and len(step) < 10 and int(step) < len(items) else None
        else:
            value = value.struct_value.fields.get(step)
    return value is not None and value.string_value == MASK


def mask(params: Struct, secrets: Iterable[Steps]) -> None:
    """Replace what `secrets` point to by MASK, in place. Members that do not exist are ignored."""
    for steps in secrets:
        _mask_in(params, steps)


def _mask_in(struct: Struct, steps: Steps) -> None:
    if steps[0] in struct.fields:
        _mask_value(struct.fields[steps[0]], steps[1:])


def _mask_value(value: Value, steps: Steps) -> None:
    kind = value.WhichOneof("kind")
    if steps and kind == "struct_value":
        _mask_in(value.struct_value, steps)
        return
    if steps and kind == "list_value":
        items = value.list_value.values
        step = steps[0]
        if step.isascii() and step.isdecimal() and len(step) < 10:
            if int(step) < len(items):
                _mask_value(items[int(step)], steps[1:])
            return
    value.string_value = MASK
