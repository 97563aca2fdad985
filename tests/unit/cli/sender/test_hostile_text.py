"""Foreign text in tables and JSON: nothing of it drives the terminal or changes what is read, and JSON stays exact."""

from __future__ import annotations

import json
import math

import pytest

from distributor.cli.one_line import one_line, printable
from distributor.cli.sender import tables
from distributor.cli.sender.json_text import json_document, json_line
from distributor.cli.sender.screen import Screen
from distributor.client import (
    AgentInfo,
    Command,
    CommandResult,
    CommandState,
    CommandStatus,
    OfflinePolicy,
    Reason,
    Receipts,
)
from distributor.errors import DistributorError

HOSTILE = [
    "\u202e",
    "\u2066",
    "\u2069",
    "\u200f",
    "\u200b",
    "\u2028",
    "\x9b",
    "\x1b",
    "\x00",
    "\x7f",
    "\r",
    "\ud800",
    "\ufeff",
]
ALL = "a" + "".join(HOSTILE) + "\nb"
SCREEN = Screen("table")


@pytest.mark.parametrize("character", HOSTILE)
def test_each_is_escaped(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_letters_of_all_scripts_are_shown() -> None:
    assert printable("Zürich 東京 שלום مرحبا e\u0301 \n") == "Zürich 東京 שלום مرحبا e\u0301 \n"
    assert one_line("a\nb") == "a\\nb"


STATE = CommandState(
    "c1", "a1", "T", 50, CommandStatus.FAILED, 1, Receipts(), reason=Reason("handler_error", ALL), params_summary=ALL
)
COMMAND = Command(STATE, {"p": ALL}, 300_000, 86_400_000, OfflinePolicy.QUEUE, 1)
RESULT = CommandResult("c1", "a1", "T", CommandStatus.FAILED, 1, Reason("x", ALL), 1, {"d": ALL}, 0, 0, 1)
AGENT = AgentInfo("a1", 1, True, 1, 0, 0, (ALL,), {ALL: ALL}, ALL, 1, 1, 0)


@pytest.mark.parametrize(
    "text",
    [
        tables.states_table(SCREEN, [STATE]),
        tables.command_text(SCREEN, COMMAND),
        tables.result_text(SCREEN, RESULT),
        tables.outcome_text(RESULT),
        tables.results_table(SCREEN, [RESULT]),
        tables.agents_table(SCREEN, [AGENT]),
        tables.agent_text(AGENT),
        json_line({ALL: [ALL]}),
        json_document({ALL: [ALL]}),
    ],
)
def test_no_table_and_no_json_lets_any_through(text: str) -> None:
    assert all(character.isprintable() or character == "\n" for character in text)


def test_json_is_exact_and_readable() -> None:
    value = {"text": ALL, "emoji": "\U0001f600", "tag": "\U000e0001", "umlaut": "ü", "number": 9007199254740993}
    assert json.loads(json_line(value)) == value
    assert json.loads(json_document(value)) == value
    assert "ü" in json_line(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_is_written_that_json_has_not(number: float) -> None:
    with pytest.raises(DistributorError, match="JSON cannot represent"):
        json_line({"a": [number]})
