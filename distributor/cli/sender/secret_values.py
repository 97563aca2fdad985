"""`--secret-param`: secrets from where neither `ps` nor the history of a shell shows them."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from distributor.cli.sender.arguments import ParsedParam, claim_stdin, parse_pair
from distributor.cli.sender.text_file import read_text_file
from distributor.environment import environment_value
from distributor.model.command import shown

_ENVIRONMENT: Final = "env:"


class SecretParam(ParsedParam):
    """A (name, value) pair from NAME=SOURCE."""

    def __init__(self) -> None:
        super().__init__("name=source", parse_secret)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name, and the value read from its source."""
        if isinstance(value, str) and value.partition("=")[2] == "-":
            claim_stdin(param, ctx)
        return super().convert(value, param, ctx)


def parse_secret(text: str) -> tuple[str, str]:
    """Read the value of NAME=env:VARIABLE, NAME=@FILE or NAME=-. A line end at the end is not part of it.

    Raises ValueError, which never repeats what might be the secret itself.
    """
    name, source = parse_pair(text) if "=" in text else (text, "")
    if source == "-":
        return name, _stripped(sys.stdin.read())
    if source.startswith("@"):
        return name, _stripped(read_text_file(source[1:]))
    if source.startswith(_ENVIRONMENT):
        variable = source.removeprefix(_ENVIRONMENT)
        value = environment_value(variable)
        if value is None:
            raise ValueError(f"needs the environment variable {shown(variable)}, which is not set")
        return name, value
    raise ValueError("must be NAME=env:VARIABLE, NAME=@FILE or NAME=- (standard input), never the secret itself")


def _stripped(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


SECRET_PARAM: Final = SecretParam()
