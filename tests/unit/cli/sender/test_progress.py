"""Progress where there is no terminal."""

from __future__ import annotations

import time

import pytest

from distributor.cli.sender.progress import CompletionProgress
from distributor.cli.sender.screen import Screen
from distributor.model.lifecycle import CommandStatus


def test_a_line_every_few_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    with CompletionProgress(Screen("table"), 4) as progress:
        progress.ended(CommandStatus.COMPLETED)
        now = 5.0
        progress.ended(CommandStatus.FAILED)
        progress.ended(CommandStatus.COMPLETED)

    assert capfd.readouterr() == (
        "",
        "2 of 4 commands ended: 1 completed, 1 failed\n3 of 4 commands ended: 2 completed, 1 failed\n",
    )


def test_nothing_ended_is_said_too(capfd: pytest.CaptureFixture[str]) -> None:
    with CompletionProgress(Screen("table"), 2):
        pass

    assert capfd.readouterr().err == "0 of 2 commands ended\n"
