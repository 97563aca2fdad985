"""Where things go."""

from __future__ import annotations

import pytest

from distributor.cli.one_line import show_error
from distributor.cli.sender.screen import Screen
from distributor.model.lifecycle import CommandStatus


def test_data_and_messages_do_not_mix(capfd: pytest.CaptureFixture[str]) -> None:
    screen = Screen("json")
    screen.document([{"a": "é\x1b"}])
    screen.record({"a": 1})
    screen.message("for people \x1b[2J")

    assert capfd.readouterr() == ('[\n  {\n    "a": "é\\u001b"\n  }\n]\n{"a": 1}\n', "for people \\x1b[2J\n")


def test_an_error_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    show_error("one\n  two\x1b")

    assert capfd.readouterr() == ("", "error: one two\\x1b\n")


class Terminal:
    """A stdout that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Screen("table").status(CommandStatus.FAILED) == "failed"

    monkeypatch.setattr("sys.stdout", Terminal())
    assert Screen("table").status(CommandStatus.FAILED) == "\x1b[31mfailed\x1b[0m"
    assert Screen("table").status(CommandStatus.QUEUED) == "queued"

    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen("table").status(CommandStatus.FAILED) == "failed"
