"""Reads a token from a file, standard input or a prompt without echo; never from an argument, which `ps` shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from distributor.errors import ConfigurationError

MAX_CHARACTERS: Final = 8_192
STANDARD_INPUT: Final = Path("-")


def read_token(file: Path | None) -> str:
    """Read a token from `file`, standard input if it is - or no terminal, else by a prompt.

    Raises ConfigurationError, which never repeats what was read.
    """
    if file is not None and file != STANDARD_INPUT:
        return _checked(_content(file), str(file))
    if file is None and sys.stdin is not None and sys.stdin.isatty():
        return _checked(click.prompt("Token", hide_input=True, err=True, default="", show_default=False), "the answer")
    if sys.stdin is None:
        raise _refused("standard input is closed: give the token with --token-file")
    return _checked(sys.stdin.buffer.read(MAX_CHARACTERS + 1), "standard input")


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise _refused(f"cannot read {file} (--token-file): {error.strerror}") from error


def _checked(given: bytes | str, source: str) -> str:
    token = (given.decode("latin-1") if isinstance(given, bytes) else given).strip()
    if not token:
        raise _refused(f"{source} holds no token")
    if len(token) >= MAX_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise _refused(f"{source} is not a token: it must be under {MAX_CHARACTERS:,} characters without spaces")
    return token


def _refused(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="token")
