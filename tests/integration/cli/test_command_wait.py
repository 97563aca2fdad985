"""Waiting for and following commands with command-sender."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from tests.support.answered_errors import Refusal
from tests.support.driven_agent import DrivenAgent, driven_agent, resumed_agent
from tests.support.launched_sender import run_sender, start_sender
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import (
    CANCELLED,
    FAILED,
    QUEUED,
    TIMEOUT,
    RunningServer,
    intercepted_server,
    quick_settings,
    running_server,
)
from tests.support.terminal import Terminal

EVERY_BYTE = bytes(range(256)) * 4_000 + b"no newline at the end \xf0\x9f"


@pytest.mark.parametrize("unbuffered", [False, True])
async def test_follow_gives_the_exact_bytes(server: str, agent: DrivenAgent, unbuffered: bool) -> None:
    agent.finish_each(output=EVERY_BYTE, exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--type=EXEC", "--follow", unbuffered=unbuffered)

    assert finished.code == 0
    assert finished.stdout == EVERY_BYTE
    assert finished.stderr.endswith("completed, exit code 0\n")


async def test_follow_keeps_the_streams_apart_and_is_live(server: str, agent: DrivenAgent) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow")
    assert process.stdout
    assert process.stderr
    command_id = await agent.next_id()

    await agent.start(command_id)
    await agent.print(command_id, b"half a li")
    assert await process.stdout.readexactly(9) == b"half a li", "before the command ended, or even the line"
    await agent.print(command_id, b"oops\n", stderr=True)
    await process.stderr.readline()
    assert await process.stderr.readline() == b"oops\n"
    await agent.finish(command_id, FAILED, exit_code=1, reason="exit_nonzero")
    assert await process.wait() == 1


@pytest.mark.parametrize("many", [[], ["--agent=a2"]])
async def test_follow_goes_on_after_a_restart_of_the_server_and_tells_of_it(
    valkey_url: str, port: int, many: list[str]
) -> None:
    target, faults = f"127.0.0.1:{port}", RpcFaults()
    async with intercepted_server(quick_settings(valkey_url, listen=target), faults), driven_agent(target) as agent:
        process = await start_sender(target, "--agent=a1", *many, "--type=EXEC", "--follow")
        assert process.stdout
        assert process.stderr
        await faults.until(lambda: faults.calls["WatchCommand"] > len(many))
        command_id = await agent.next_id()
        held = await agent.assignment(command_id)
        await agent.start(command_id)
        await agent.print(command_id, b"before\n")
        assert (await process.stdout.readline()).endswith(b"before\n")
    line = b""
    while b"cannot be reached" not in line:
        line = await process.stderr.readline()
    assert line == f"the server at {target} cannot be reached; trying again for up to 60 s\n".encode()
    async with running_server(valkey_url, listen=target), resumed_agent(target, held, len(b"before\n")) as agent:
        await agent.print(command_id, b"after\n")
        await agent.finish(command_id)
        async with driven_agent(target, "a2") as other:
            other.finish_each()
            stdout, stderr = await process.communicate()

    assert process.returncode == 0
    assert stdout.endswith(b"after\n")
    assert stdout.count(b"\n") == 1
    told = stderr.decode().splitlines()
    assert told[0] == f"connected to the server at {target} again"
    assert "the server" not in "".join(told[1:])


@pytest.mark.parametrize("together", [True, False])
async def test_the_last_line_does_not_stick_to_output_without_end(
    server: str, agent: DrivenAgent, together: bool
) -> None:
    agent.finish_each(output=b"no end", exit_code=0)
    streams: dict[str, Any] = {"stderr": asyncio.subprocess.STDOUT} if together else {}
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow", **streams)
    stdout, stderr = await process.communicate()

    if together:
        assert b"\nno end\n" in stdout
        assert stdout.splitlines()[-1].endswith(b" completed, exit code 0")
    else:
        assert stdout == b"no end"
        assert b"\n\n" not in stderr


async def test_follow_many_marks_each_line_with_its_agent(server: str, agent: DrivenAgent) -> None:
    async with driven_agent(server, "a2") as other:
        for one in (agent, other):
            one.finish_each(output=b"one\n\xfftwo", exit_code=0)

        finished = await run_sender(server, "--agent=a1", "--agent=a2", "--type=EXEC", "--follow")

    assert sorted(finished.stdout.splitlines()) == [b"a1 | one", b"a1 | \xfftwo", b"a2 | one", b"a2 | \xfftwo"]
    assert finished.stderr.endswith("2 of 2 commands ended: 2 completed\n")


async def test_watch_many_marks_the_lines_of_commands_that_have_ended(server: str, agent: DrivenAgent) -> None:
    agent.finish_each(output=b"one\n", exit_code=0)
    queued = await run_sender(server, "--agent=a1", "--type=EXEC", "--repeat=2", "--wait", "-o", "jsonl")
    ids = [record["commandId"] for record in queued.records]

    watched = await run_sender(server, "watch", *ids)

    assert watched.stdout.splitlines() == [b"a1 | one"] * 2


async def test_follow_as_json_lines_carries_bytes_in_base64(server: str, agent: DrivenAgent) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow", "-o", "jsonl")
    assert process.stdout
    # It ends only once its first state was shown: a command that ends sooner has no other than the last.
    lines = [await process.stdout.readline()]
    command_id = await agent.next_id()
    await agent.start(command_id)
    await agent.print(command_id, b"\xff")
    await agent.finish(command_id, exit_code=0)
    stdout, _ = await process.communicate()

    records = [json.loads(line) for line in [*lines, *stdout.splitlines()]]
    kinds = [next(key for key in record if key != "commandId") for record in records]
    assert (kinds[0], kinds[-1]) == ("state", "result")
    assert (kinds.count("output"), kinds.count("result")) == (1, 1)
    assert set(kinds) == {"state", "output", "result"}
    assert records[kinds.index("output")]["output"]["data"] == "/w=="
    assert records[-1]["result"]["exitCode"] == 0


async def test_a_hundred_commands_from_one_call_all_end(running: RunningServer, faults: RpcFaults) -> None:
    names = [f"a{number}" for number in range(10)]
    agents = [f"--agent={name}" for name in names]

    async with AsyncExitStack() as stack:
        sender = asyncio.create_task(
            run_sender(running.address, *agents, "--type=PING", "--repeat=10", "--wait", "-o", "jsonl")
        )
        await faults.until(lambda: faults.calls["WatchCommands"] > 0)
        for name in names:
            (await stack.enter_async_context(driven_agent(running.address, name))).finish_each(exit_code=0)
        finished = await sender

    assert finished.code == 0
    assert {record["commandId"] for record in finished.records} == set(await running.ids())
    assert len(finished.records) == 100
    assert finished.stderr == (
        "queued 100 of 100 commands for 10 agents\n"
        "the agents a0, a1, a2, a3, a4 and 5 more have never connected\n"
        "100 of 100 commands ended: 100 completed\n"
    )


async def test_progress_is_drawn_on_a_terminal_only_on_stderr(server: str, agent: DrivenAgent) -> None:
    agent.finish_each(exit_code=0)
    async with Terminal() as terminal:
        process = await start_sender(
            server, "--agent=a1", "--type=PING", "--repeat=100", "--wait", "-o", "json", stderr=terminal.theirs
        )
        stdout, _ = await process.communicate()

    assert "100/100" in terminal.ever_drawn
    assert b"\x1b" not in stdout


async def test_progress_and_output_share_a_terminal(server: str, agent: DrivenAgent) -> None:
    async with driven_agent(server, "a2") as other, Terminal() as terminal:
        process = await start_sender(
            server, "--agent=a1", "--agent=a2", "--type=EXEC", "--follow",
            stdout=terminal.theirs, stderr=terminal.theirs,
        )  # fmt: skip
        await terminal.until("0/2")
        first, second = await agent.next_id(), await other.next_id()
        for number in range(3):
            await agent.print(first, b"out %d\n" % number)
            await other.print(second, b"err %d\n" % number, stderr=True)
            await terminal.until(f"a2 | err {number}")
        await agent.finish(first)
        await terminal.until("1/2")
        await other.print(second, b"more\n")
        await other.finish(second, FAILED, reason="exit_nonzero")
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
    server: str, agent: DrivenAgent, how: dict[str, Any], arguments: list[str], code: int
) -> None:
    agent.finish_each(**how)

    assert (await run_sender(server, "--agent=a1", "--type=EXEC", *arguments)).code == code


@pytest.mark.parametrize("many", [[], ["--repeat=3"]])
@pytest.mark.parametrize("option", ["--wait", "--follow"])
async def test_the_timeout_of_a_wait(running: RunningServer, faults: RpcFaults, option: str, many: list[str]) -> None:
    finished = await run_sender(running.address, "--agent=a1", "--type=EXEC", option, "--timeout=3s", *many)

    assert faults.calls["CancelCommand"] == 0
    assert finished.code == 3
    going_on = [f"{command_id} (queued)" for command_id in await running.ids()]
    assert finished.stderr.splitlines()[-1] == (
        f"error: not ended after 3 s of waiting; not ended: {', '.join(going_on)}"
    )


async def test_a_timeout_still_shows_what_has_ended(
    running: RunningServer, faults: RpcFaults, agent: DrivenAgent
) -> None:
    agent.finish_each()
    # Its result is still on its way when the wait is over.
    faults.refuse("GetResult", Refusal(grpc.StatusCode.UNAVAILABLE, "busy", "BUSY", retry_after_ms=5_500))

    finished = await run_sender(
        running.address, "--agent=a1", "--agent=a2", "--type=X", "--wait", "--timeout=5s", "-o", "json"
    )

    first, second = await running.ids()
    assert finished.code == 3
    assert [result["commandId"] for result in finished.document] == [first]
    assert finished.stderr.endswith(f"not ended: {second} (queued)\n")


@pytest.mark.parametrize("options", [["--follow"], ["--wait"], ["--wait", "--repeat=2"], ["--follow", "--repeat=2"]])
async def test_an_interrupt_leaves_the_commands_as_they_are_and_names_them(
    running: RunningServer, faults: RpcFaults, options: list[str]
) -> None:
    process = await start_sender(running.address, "--agent=a1", "--type=EXEC", *options)
    await faults.until(lambda: faults.calls["WatchCommand"] + faults.calls["WatchCommands"] > 0)

    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    told = stderr.decode().splitlines()[-1].replace(" (queued)", "")
    ids = await running.ids()
    assert told == f"interrupted; not ended: {', '.join(ids)}"
    assert faults.calls["CancelCommand"] == 0
    assert {(await running.state(command_id)).status for command_id in ids} == {QUEUED}


def stop_reading(stream: asyncio.StreamReader) -> None:
    # There is no public way to close the reading end.
    stream._transport.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", [["list", "--limit=2000", "-o", "jsonl"], ["watch"]])
async def test_a_reader_that_goes_away_ends_it_quietly(
    server: str, agent: DrivenAgent, arguments: list[str], unbuffered: bool
) -> None:
    await run_sender(server, "--agent=a1", "--agent=a2", "--type=EXEC", "--repeat=1000")
    first = await agent.next_id()
    await agent.print(first, b"line\n" * 200_000)
    await agent.finish(first)
    ids = [first] if arguments == ["watch"] else []
    process = await start_sender(server, *arguments, *ids, unbuffered=unbuffered)
    assert process.stdout
    assert process.stderr

    await process.stdout.readline()
    stop_reading(process.stdout)

    assert b"rror" not in await process.stderr.read()
    assert await process.wait() == 141


async def test_a_reader_that_goes_away_is_told_what_unended_text(server: str, agent: DrivenAgent) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", "--follow")
    command_id = await agent.next_id()
    await agent.start(command_id)
    await agent.print(command_id, b"first\n")
    assert process.stdout
    assert process.stderr
    await process.stdout.readline()
    stop_reading(process.stdout)
    await agent.print(command_id, b"second\n")

    told = (await process.stderr.read()).decode().splitlines()[-1]
    assert told == f"the reader of standard output exited; not ended: {command_id} (assigned)"
    assert await process.wait() == 141
