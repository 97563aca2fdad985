"""Recordings of one version: what its servers send to Valkey, the replies they expect, and how they read events."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "recorded" / "store"
LIBRARY: Final = "<library>"
COMMAND_ID: Final = "<command_id>"
MS: Final = "<ms>"
WIDTH: Final = 118

_DIFFERING: Final = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"\b\d{13}-\d+\b"), "<position>"),
    (re.compile(r"\b\d{16}\b"), "<us>"),
    (re.compile(r"\b\d{13}\b"), MS),
    (re.compile(r"(?<=waited )[\d.]+ s\b"), "<seconds>"),
    (re.compile(r"\b\d{4,12}\b"), "<number>"),
)
"""What differs between two runs: times, and large numbers, which are durations. Small numbers are counts."""


class Call(NamedTuple):
    """A command as it was sent, with LIBRARY for the digest of the library, and the readable form of its reply."""

    send: list[str]
    reply: Any


class Recording(NamedTuple):
    """What was recorded of one version."""

    library: str
    """The Lua source of the store functions."""
    reader: dict[str, Any]
    """How that version reads the event stream: see `recorded_event_reader.py`."""
    steps: dict[str, list[Call]]
    """What that version sends in each step of `store_scenario.py`."""
    entries: list[list[str]]
    """The fields of each entry of the event stream after the scenario."""

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Read the recording in `folder`."""
        document = json.loads((folder / "recording.json").read_text(encoding="utf-8"))
        return cls(
            (folder / "functions.lua").read_text(encoding="utf-8"),
            document["reader"],
            {step: [Call(**call) for call in calls] for step, calls in document["steps"].items()},
            document["entries"],
        )

    def write(self, folder: Path) -> None:
        """Write the recording to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "functions.lua").write_text(self.library, encoding="utf-8")
        steps = {step: [call._asdict() for call in calls] for step, calls in self.steps.items()}
        document = {"reader": self.reader, "steps": steps, "entries": self.entries}
        (folder / "recording.json").write_text(json_lines(document) + "\n", encoding="utf-8")


def readable(command: list[str], reply: Any) -> Any:
    """A reply as JSON, with placeholders for what differs between two runs."""
    return "<time>" if command == ["TIME"] else _readable(reply)


def same_each_run(text: str) -> str:
    """`text` with placeholders for what differs between two runs."""
    for pattern, placeholder in _DIFFERING:
        text = pattern.sub(placeholder, text)
    return text


def understood(expected: Any, actual: Any) -> bool:
    """Whether a reader of `expected` understands `actual`: the same, but JSON objects may have further members."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            name in actual and understood(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(understood(one, other) for one, other in zip(expected, actual, strict=True))
        )
    return type(expected) is type(actual) and bool(expected == actual)


def text_of(argument: str | bytes | int | float) -> str:
    """An argument or reply as text; bytes that are not UTF-8 become surrogates."""
    return argument.decode(errors="surrogateescape") if isinstance(argument, bytes) else str(argument)


def json_lines(value: Any, indent: int = 0, before: int = 0) -> str:
    """JSON in lines of up to WIDTH characters, unless a text is longer; `before` characters precede the first."""
    line = json.dumps(value)
    if indent + before + len(line) <= WIDTH or not isinstance(value, dict | list):
        return line
    margin = "\n" + " " * indent
    if isinstance(value, dict):
        names = [f"{json.dumps(name)}: " for name in value]
        parts = [n + json_lines(part, indent + 1, len(n)) for n, part in zip(names, value.values(), strict=True)]
        return f"{{{margin} {_filled(parts, indent + 1)}{margin}}}"
    return f"[{margin} {_filled([json_lines(part, indent + 1) for part in value], indent + 1)}{margin}]"


def _filled(parts: list[str], indent: int) -> str:
    """Parts of a list or object, as many to a line as fit; what takes several lines begins a line of its own."""
    lines = [""]
    for part in parts:
        separator = ", " if lines[-1] else ""
        if separator and ("\n" in lines[-1] + part or indent + len(lines[-1]) + len(part) + 3 > WIDTH):
            lines.append("")
            separator = ""
        lines[-1] += separator + part
    return (",\n" + " " * indent).join(lines)


def _readable(reply: Any) -> Any:
    match reply:
        case list():
            return [_readable(part) for part in reply]
        case bytes() | str():
            return _readable_text(text_of(reply))
        case dict():
            return {name: _readable(part) for name, part in reply.items()}
        case bool() | None:
            return reply
        case _:
            return reply if abs(reply) < 1000 else same_each_run(str(reply))


def _readable_text(text: str) -> Any:
    """Events and results are JSON objects, in which readers look for members by name."""
    if text.startswith("{"):
        return _readable(json.loads(text))
    return same_each_run(text)
