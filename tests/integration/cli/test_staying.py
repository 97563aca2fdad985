"""Waiting for and following commands with command-sender."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import Any

import grpc
import pytest

from tests.support.answered_errors import Refusal
from tests.support.fake_command_service import CANCELLED, FAILED, TIMEOUT, FakeCommandService, serve_fake
from tests.support.launched_sender import run_sender, start_sender
from tests.support.terminal import Terminal

EVERY_BYTE = bytes(range(256)) * 4_000 + b"no newline at the end \xf0\x9f"


@pytest.mark.parametrize("unbuffered", [False, True])
async def test_follow_gives_the_exact_bytes(service: FakeCommandService, server: str, unbuffered: bool) -> None:
    service.end_each(output=EVERY_BYTE, exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--type=EXEC", "--follow", unbuffered=unbuffered)

    assert finished.code == 0
    assert finished.stdout == EVERY_BYTE
    assert finished.stderr.endswith("completed, exit code 0\n")


async def test_follow_keeps_the_streams_apart_and_is_live(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1")
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow")
    assert process.stdout
    assert process.stderr
    await service.until(lambda: bool(service.commands))
    (command_id,) = service.commands

    service.start(command_id)
    service.write_output(command_id, b"half a li")
    assert await process.stdout.readexactly(9) == b"half a li", "before the command ended, or even the line"
    service.write_output(command_id, b"oops\n", stderr=True)
    await process.stderr.readline()
    assert await process.stderr.readline() == b"oops\n"
    service.finish(command_id, FAILED, exit_code=1, reason="exit_nonzero")
    assert await process.wait() == 1


@pytest.mark.parametrize("many", [[], ["--agent=a2"]])
async def test_follow_goes_on_after_a_restart_of_the_server_and_tells_of_it(
    service: FakeCommandService, port: int, many: list[str]
) -> None:
    async with serve_fake(service, port) as target:
        process = await start_sender(target, "--agent=a1", *many, "--type=EXEC", "--follow")
        assert process.stdout
        assert process.stderr
        await service.until(lambda: service.calls["WatchCommand"] > len(many))
        command_id, *_ = service.commands
        service.start(command_id)
        service.write_output(command_id, b"before\n")
        assert (await process.stdout.readline()).endswith(b"before\n")
    line = b""
    while b"cannot be reached" not in line:
        line = await process.stderr.readline()
    assert line == f"the server at {target} cannot be reached; trying again for up to 60 s\n".encode()
    async with serve_fake(service, port):
        service.write_output(command_id, b"after\n")
        for one in service.commands:
            service.finish(one)
        stdout, stderr = await process.communicate()

    assert process.returncode == 0
    assert stdout.endswith(b"after\n")
    assert stdout.count(b"\n") == 1
    told = stderr.decode().splitlines()
    assert told[0] == f"the server at {target} answers again"
    assert "the server" not in "".join(told[1:])


async def test_follow_many_marks_each_line_with_its_agent(service: FakeCommandService, server: str) -> None:
    service.end_each(output=b"one\n\xfftwo", exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--agent=a2", "--type=EXEC", "--follow")

    assert sorted(finished.stdout.splitlines()) == [b"a1 | one", b"a1 | \xfftwo", b"a2 | one", b"a2 | \xfftwo"]
    assert finished.stderr.endswith("2 of 2 commands ended: 2 completed\n")


async def test_follow_as_json_lines_carries_bytes_in_base64(service: FakeCommandService, server: str) -> None:
    service.end_each(output=b"\xff", exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--type=EXEC", "--follow", "-o", "jsonl")

    kinds = [next(key for key in record if key != "commandId") for record in finished.records]
    assert kinds == ["state", "output", "result"]
    assert finished.records[1]["output"]["data"] == "/w=="
    assert finished.records[2]["result"]["exitCode"] == 0


async def test_a_hundred_commands_from_one_call_all_end(service: FakeCommandService, server: str) -> None:
    service.end_each(exit_code=0)
    agents = [f"--agent=a{number}" for number in range(10)]

    finished = await run_sender(server, *agents, "--type=PING", "--repeat=10", "--wait", "-o", "jsonl")

    assert finished.code == 0
    assert {record["commandId"] for record in finished.records} == set(service.commands)
    assert len(finished.records) == 100
    assert finished.stderr == (
        "queued 100 of 100 commands for 10 agents\n"
        "the agents a0, a1, a2, a3, a4 and 5 more have never connected\n"
        "100 of 100 commands ended: 100 completed\n"
    )


async def test_progress_is_drawn_on_a_terminal_only_on_stderr(service: FakeCommandService, server: str) -> None:
    service.end_each(exit_code=0)
    async with Terminal() as terminal:
        process = await start_sender(
            server, "--agent=a1", "--type=PING", "--repeat=100", "--wait", "-o", "json", stderr=terminal.theirs
        )
        stdout, _ = await process.communicate()

    assert "100/100" in terminal.ever_drawn
    assert b"\x1b" not in stdout


async def test_progress_and_output_share_a_terminal(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1")
    service.connect_agent("a2")
    async with Terminal() as terminal:
        process = await start_sender(
            server, "--agent=a1", "--agent=a2", "--type=EXEC", "--follow",
            stdout=terminal.theirs, stderr=terminal.theirs,
        )  # fmt: skip
        await terminal.until("0/2")
        first, second = service.commands
        for number in range(3):
            service.write_output(first, b"out %d\n" % number)
            service.write_output(second, b"err %d\n" % number, stderr=True)
            await terminal.until(f"a2 | err {number}")
        service.finish(first)
        await terminal.until("1/2")
        service.write_output(second, b"more\n")
        service.finish(second, FAILED, reason="exit_nonzero")
        assert await process.wait() == 1

    assert "1/2 1 completed" in terminal.ever_drawn
    queued, *lines, last = terminal.lines
    assert queued == "queued 2 of 2 commands for 2 agents"
    assert sorted(lines) == [
        *(f"a1 | out {number}" for number in range(3)),
        f"a2 | {second} failed (exit_nonzero: exit nonzero)",
        *(f"a2 | err {number}" for number in range(3)),
        "a2 | more",
    ]
    assert last == "2 of 2 commands ended: 1 completed, 1 failed"


@pytest.mark.parametrize(
    ("how", "arguments", "code"),
    [
        ({"exit_code": 0}, ["--wait"], 0),
        ({"exit_code": 3, "status": FAILED}, ["--wait"], 1),
        ({"exit_code": 3, "status": FAILED}, ["--follow"], 1),
        ({"exit_code": 3, "status": FAILED}, ["--wait", "--passthrough-exit-code"], 3),
        ({"exit_code": 3, "status": FAILED}, ["--follow", "--passthrough-exit-code"], 3),
        ({"exit_code": -9, "status": FAILED}, ["--wait", "--passthrough-exit-code"], 125),
        ({"status": TIMEOUT}, ["--wait", "--passthrough-exit-code"], 124),
        ({"status": CANCELLED}, ["--wait"], 1),
        ({"exit_code": 3, "status": FAILED}, ["--wait", "--repeat=2"], 1),
    ],
)
async def test_exit_code_tells_how_it_ended(
    service: FakeCommandService, server: str, how: dict[str, Any], arguments: list[str], code: int
) -> None:
    service.on_queued = partial(service.finish, **how)

    assert (await run_sender(server, "--agent=a1", "--type=EXEC", *arguments)).code == code


@pytest.mark.parametrize("many", [[], ["--repeat=3"]])
@pytest.mark.parametrize("stay", ["--wait", "--follow"])
async def test_the_timeout_of_a_wait(service: FakeCommandService, server: str, stay: str, many: list[str]) -> None:
    finished = await run_sender(server, "--agent=a1", "--type=EXEC", stay, "--timeout=100ms", *many)

    assert finished.code == 3
    going_on = [f"{command_id} (queued)" for command_id in service.commands]
    assert finished.stderr.splitlines()[-1] == (
        f"error: not ended after 0.1 s of waiting; still going on: {', '.join(going_on)}"
    )
    assert service.calls["CancelCommand"] == 0


async def test_a_timeout_still_shows_what_has_ended(service: FakeCommandService, server: str) -> None:
    service.on_queued = lambda command_id: service.finish(command_id) if len(service.commands) == 1 else None
    # Its result is still on its way when the wait is over.
    service.refuse("GetResult", Refusal(grpc.StatusCode.UNAVAILABLE, "busy", "BUSY", retry_after_ms=2_500))

    finished = await run_sender(server, "--agent=a1", "--type=X", "--repeat=2", "--wait", "--timeout=2s", "-o", "json")

    first, second = service.commands
    assert finished.code == 3
    assert [result["commandId"] for result in finished.document] == [first]
    assert finished.stderr.endswith(f"still going on: {second} (queued)\n")


@pytest.mark.parametrize("stay", [["--follow"], ["--wait"], ["--wait", "--repeat=2"], ["--follow", "--repeat=2"]])
async def test_an_interrupt_leaves_the_commands_as_they_are_and_names_them(
    service: FakeCommandService, server: str, stay: list[str]
) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", *stay)
    await service.until(lambda: service.calls["WatchCommand"] + service.calls["WatchCommands"] > 0)

    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    told = stderr.decode().splitlines()[-1].replace(" (queued)", "")
    assert told == f"interrupted; still going on: {', '.join(service.commands)}"
    assert service.calls["CancelCommand"] == 0


def stop_reading(stream: asyncio.StreamReader) -> None:
    # There is no public way to close the reading end.
    stream._transport.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", [["list", "--limit=2000", "-o", "jsonl"], ["watch"]])
async def test_a_reader_that_goes_away_ends_it_quietly(
    service: FakeCommandService, server: str, arguments: list[str], unbuffered: bool
) -> None:
    await run_sender(server, "--agent=a1", "--type=EXEC", "--repeat=2000")
    first = next(iter(service.commands))
    service.write_output(first, b"line\n" * 200_000)
    service.finish(first)
    ids = [first] if arguments == ["watch"] else []
    process = await start_sender(server, *arguments, *ids, unbuffered=unbuffered)
    assert process.stdout
    assert process.stderr

    await process.stdout.readline()
    stop_reading(process.stdout)

    assert b"rror" not in await process.stderr.read()
    assert await process.wait() == 141


async def test_a_reader_that_goes_away_is_told_what_goes_on(service: FakeCommandService, server: str) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow")
    await service.until(lambda: service.calls["WatchCommand"] > 0)
    (command_id,) = service.commands
    service.start(command_id)
    service.write_output(command_id, b"first\n")
    assert process.stdout
    assert process.stderr
    await process.stdout.readline()
    stop_reading(process.stdout)
    service.write_output(command_id, b"second\n")

    told = (await process.stderr.read()).decode().splitlines()[-1]
    assert told == f"the reader of the output went away; still going on: {command_id} (assigned)"
    assert await process.wait() == 141
