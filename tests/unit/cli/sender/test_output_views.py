"""Output of commands as it is shown."""

from __future__ import annotations

import asyncio

import pytest

from distributor.cli.sender.output_views import JsonView, PrefixedView, RawView
from distributor.cli.sender.screen import Screen
from distributor.client import (
    AgentPresence,
    CommandResult,
    CommandState,
    CommandStatus,
    OutputChunk,
    OutputGap,
    OutputStream,
    Reason,
    Receipts,
)
from distributor.model.json_value import JsonValue
from tests.support.waiting import PATIENCE_SECONDS

AWAY = CommandState(
    "c1", "a1", "EXEC", 50, CommandStatus.QUEUED, 0, Receipts(), agent=AgentPresence(True, False, 1_000)
)
RESULT = CommandResult(
    "c1", "a1", "EXEC", CommandStatus.FAILED, 1, Reason("exit_nonzero", "exit code 3"), 3, None, 5, 0, 9_000
)


def chunk(data: bytes, stream: OutputStream = OutputStream.STDOUT) -> OutputChunk:
    return OutputChunk(stream, 0, data)


def test_raw_output_keeps_every_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    view = RawView(Screen("table"))
    for update in (chunk(b"\xff\x00no end"), chunk(b"!\r\n"), chunk(b"err", OutputStream.STDERR)):
        view.show(update)

    assert capfdbinary.readouterr() == (b"\xff\x00no end!\r\n", b"err")


def test_raw_says_why_nothing_happens_and_how_it_ended(capfd: pytest.CaptureFixture[str]) -> None:
    view = RawView(Screen("table"))
    for update in (AWAY, AWAY, OutputGap(0, 2_000), RESULT):
        view.show(update)

    assert capfd.readouterr() == (
        "",
        "waiting: a1 has been away since 1970-01-01T00:00:01.000Z\n"
        "2,000 bytes of output were lost\n"
        "c1 failed, exit code 3 (exit_nonzero: exit code 3)\n",
    )


async def test_prefixed_lines_are_whole_and_streams_do_not_mix(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    view = PrefixedView(Screen("table"), "a1")
    view.show(AWAY)
    for piece in (chunk(b"one\ntw"), chunk(b"err", OutputStream.STDERR), chunk(b"o\n\nlast \xff")):
        view.show(piece)
    assert capfdbinary.readouterr() == (b"a1 | one\na1 | two\na1 | \n", b"")

    view.show(RESULT)
    assert capfdbinary.readouterr() == (
        b"a1 | last \xff\n",
        b"a1 | err\na1 | c1 failed, exit code 3 (exit_nonzero: exit code 3)\n",
    )


async def test_a_prompt_is_shown_after_a_moment_and_its_line_unended_text(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    view = PrefixedView(Screen("table"), "a1", flush_seconds=0.01)
    shown = b""
    view.show(AWAY)
    view.show(chunk(b"Name: "))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not shown:
            await asyncio.sleep(0.002)
            shown = capfdbinary.readouterr().out
    assert shown == b"a1 | Name: \n"

    view.show(chunk(b"Bob\nnext\n"))
    assert capfdbinary.readouterr().out == b"a1 + Bob\na1 | next\n"


async def test_prefixed_lines_do_not_join_across_a_gap(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    view = PrefixedView(Screen("table"), "a1")
    for update in (AWAY, chunk(b"half a li"), OutputGap(9, 2_009), chunk(b"er half\nwhole\n")):
        view.show(update)

    assert capfdbinary.readouterr() == (
        b"a1 | half a li\na1 ~ er half\na1 | whole\n",
        b"a1 | 2,000 bytes of output were lost\n",
    )


async def test_what_is_held_back_is_shown_when_the_view_is_closed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    view = PrefixedView(Screen("table"), "a1")
    view.show(AWAY)
    view.show(chunk(b"no end"))
    view.close()

    assert capfdbinary.readouterr().out == b"a1 | no end\n"


def test_killed_leftovers_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    view = RawView(Screen("table"))
    data: JsonValue = {"killed_leftover_processes": True, "surviving_processes": [{"pid": 7, "name": "sleep 600"}]}
    view.show(RESULT._replace(data=data))

    assert capfd.readouterr().err == (
        "c1 failed, exit code 3 (exit_nonzero: exit code 3); leftover processes killed, processes still running: 1\n"
    )


@pytest.mark.parametrize(("stream", "newline"), [(OutputStream.STDERR, "\n"), (OutputStream.STDOUT, "")])
def test_a_message_begins_its_own_line_on_the_file_it_goes_to(
    capfd: pytest.CaptureFixture[str], stream: OutputStream, newline: str
) -> None:
    view = RawView(Screen("table"))
    view.show(chunk(b"no end", stream))
    view.show(RESULT)

    captured = capfd.readouterr()
    assert captured.err.removeprefix("no end").startswith(f"{newline}c1 failed")
    assert "\n" not in captured.out


def test_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    JsonView(Screen("jsonl"), "c1").show(OutputGap(0, 5))

    assert capfd.readouterr().out == '{"commandId": "c1", "gap": {"beginOffset": 0, "endOffset": 5}}\n'
