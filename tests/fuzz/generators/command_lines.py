"""Command lines by what a click program declares: sound options with odd values, in any order, some unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import click

ODD_WORDS: Final = (
    *("", " ", "-", "--", "---", "-1", "0", "1", "99999999999999999999", "1e400", "nan", "inf", "0x10", "\u0661"),
    *("a", "fuzz-0", "PRINT", "*", "a=b", "=", "a=", "=b", "a=b=c", "{}", "[", '{"a": NaN}', "[[" * 3_000, "null"),
    *("1s", "-5s", "15m", "9" * 30 + "d", "1d1d", "high", "queue", "table", "json", "jsonl"),
    *("127.0.0.1:0", "127.0.0.1:99999", "[::1", ":0", "host:port", "http://x", "valkey://u:p@h:1/x", "unix:///x"),
    *("\x1b[2J", "\u202e", "\udc80", "\u00e9", "x" * 70_000, "%s%n", "$(id)", "../..", "missing.toml", "odd.toml"),
    *("01980000-0000-7000-8000-ffffffffffff", "2026-11-30T00:00:00Z", "yesterday", "-o", "--help", "@file"),
)
MOST_WORDS: Final = 6


def odd_command_line(rng: Random, program: click.Command) -> list[str]:
    """Return arguments for a program; at least half of them are ones that it declares."""
    words: list[str] = []
    command = program
    while isinstance(command, click.Group) and rng.random() < 0.95:
        words += _options(rng, command) if rng.random() < 0.1 else []
        name = rng.choice(sorted(command.commands))
        words.append(name)
        command = command.commands[name]
    words += _options(rng, command)
    if rng.random() < 0.3:
        rng.shuffle(words)
    return words


def _options(rng: Random, command: click.Command) -> list[str]:
    words: list[str] = []
    for _ in range(rng.randint(0, MOST_WORDS)):
        words += _option(rng, rng.choice(command.params)) if command.params and rng.random() < 0.75 else [_word(rng)]
    return words


def _option(rng: Random, parameter: click.Parameter) -> Sequence[str]:
    value = _value(rng, parameter)
    if isinstance(parameter, click.Argument):
        return [value]
    name = rng.choice([*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter, click.Option) and parameter.is_flag and rng.random() < 0.9:
        return [name]
    return [f"{name}={value}"] if name.startswith("--") and rng.random() < 0.5 else [name, value]


def _value(rng: Random, parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice) and rng.random() < 0.7:
        return str(rng.choice(list(parameter.type.choices)))
    return _word(rng)


def _word(rng: Random) -> str:
    return rng.choice(ODD_WORDS)


SETTINGS_FILES: Final[Mapping[str, bytes]] = {
    "odd.toml": b"[server]\nlisten = 5\n[agent]\nlabels = 'x'\n[bridge]\ntoken_key = ['a']\n[client]\nserver = {}\n",
}
"""Files that a word may name, to be written into the working directory."""
