"""command-sender through its launcher, against a CommandService in memory."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.fake_command_service import CANCELLED, FAILED, TIMEOUT, FakeCommandService, Refusal
from tests.support.launched_sender import LAUNCHER, ROOT, run_sender, start_sender
from tests.support.ports import free_port

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"
EVERY_BYTE = bytes(range(256)) * 4_000 + b"no newline at the end \xf0\x9f"


async def queued(service: FakeCommandService, *arguments: str, server: str) -> str:
    finished = await run_sender(server, *arguments, "-o", "json")
    return str(finished.document["commandId"])


def ends(service: FakeCommandService, *outcome: Any, output: bytes = b"", **how: Any) -> Callable[[str], None]:
    """Makes every command run and end as soon as it is queued."""

    def run(command_id: str) -> None:
        service.start(command_id)
        if output:
            service.write_output(command_id, output)
        service.finish(command_id, *outcome, **how)

    return run


@pytest.mark.parametrize("command", [(), ("send",)])
async def test_the_documented_call_queues_the_command(
    service: FakeCommandService, server: str, command: tuple[str, ...]
) -> None:
    service.connect_agent("agent123")

    finished = await run_sender(server, *command, "--agent=agent123", "--type=STOP", "--params=reason=test")

    (stored,) = service.commands.values()
    assert (stored.command.agent_id, stored.command.type) == ("agent123", "STOP")
    assert dict(stored.command.params) == {"reason": "test"}
    assert finished.code == 0
    command_id = stored.command.command_id
    assert finished.stdout.decode() == f"{command_id} queued: STOP for agent123 (the agent is connected)\n"
    assert finished.stderr == f"watch it with: command-sender watch {command_id}\n"


async def test_it_says_that_the_agent_is_away_and_since_when(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1")
    service.disconnect_agent("a1")

    assert b"(the agent is away since 2027-01-15T08:00:02.000Z;" in (await send(server, "a1")).stdout
    assert b"has never connected" in (await send(server, "a2")).stdout
    assert (await send(server, "a1", "--offline=fail")).code == 6


send = partial(lambda server, agent, *more: run_sender(server, f"--agent={agent}", "--type=PING", *more))


async def test_every_option_reaches_the_command(service: FakeCommandService, server: str) -> None:
    finished = await run_sender(
        server, "--agent=a1", "--type=COPY", "--params=text=1,2=3", "--params-json=-", "--priority=high",
        "--time-limit=2m", "--queue-ttl=1h", "--idempotency-key=k", "--output=json", stdin=b'{"n": 1, "list": [true]}',
    )  # fmt: skip

    form = finished.document
    assert form["params"] == {"text": "1,2=3", "n": 1, "list": [True]}
    assert (form["priority"], form["timeLimit"], form["queueTtl"]) == (75, "120s", "3600s")
    assert (form["status"], form["alreadyQueued"]) == ("queued", False)
    assert form["receipts"]["queueTime"].endswith("Z")
    assert form["receipts"]["startTime"] is None
    assert service.requests[0].idempotency_key == "k"


async def test_what_follows_two_dashes_is_a_program_to_run(service: FakeCommandService, server: str) -> None:
    await run_sender(server, "--agent=a1", "--", "sh", "-c", "echo --agent")

    (stored,) = service.commands.values()
    assert stored.command.type == "EXEC"
    assert list(stored.command.params["argv"]) == ["sh", "-c", "echo --agent"]


async def test_commands_come_from_a_file(service: FakeCommandService, server: str) -> None:
    lines = b'{"agentId": "a1", "type": "PING", "priority": 0, "timeLimit": 1.5}\n\n{"params": {"n": 1}}\n'

    finished = await run_sender(
        server, "--input=-", "--agent=a2", "--agent=a3", "--type=STOP", "-o", "jsonl", stdin=lines
    )

    commands = [stored.command for stored in service.commands.values()]
    assert [(c.agent_id, c.type, c.priority) for c in commands] == [
        ("a1", "PING", 0),
        ("a2", "STOP", 50),
        ("a3", "STOP", 50),
    ]
    assert commands[0].time_limit.ToMilliseconds() == 1_500
    assert [record["commandId"] for record in finished.records] == list(service.commands)
    assert finished.stderr == "queued 3 of 3 commands for 3 agents\n"


async def test_one_of_many_refused_is_told_and_the_rest_is_queued(service: FakeCommandService, server: str) -> None:
    lines = b'{"agentId": "a1"}\n{"agentId": "a2", "offline": "fail"}\n'

    finished = await run_sender(server, "--input=-", "--type=PING", "-o", "json", stdin=lines)

    assert finished.code == 6
    assert [record.get("error", {}).get("reason") for record in finished.document] == [None, "AGENT_OFFLINE"]
    assert "error: PING for a2 was not queued: a2 is not connected\n" in finished.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
async def test_follow_gives_the_exact_bytes(service: FakeCommandService, server: str, unbuffered: bool) -> None:
    service.on_queued = ends(service, output=EVERY_BYTE, exit_code=0)

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


async def test_follow_many_marks_each_line_with_its_agent(service: FakeCommandService, server: str) -> None:
    service.on_queued = ends(service, output=b"one\n\xfftwo", exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--agent=a2", "--type=EXEC", "--follow")

    assert sorted(finished.stdout.splitlines()) == [b"a1 | one", b"a1 | \xfftwo", b"a2 | one", b"a2 | \xfftwo"]
    assert finished.stderr.endswith("2 of 2 commands ended: 2 completed\n")


async def test_follow_as_json_lines_carries_bytes_in_base64(service: FakeCommandService, server: str) -> None:
    service.on_queued = ends(service, output=b"\xff", exit_code=0)

    finished = await run_sender(server, "--agent=a1", "--type=EXEC", "--follow", "-o", "jsonl")

    kinds = [next(key for key in record if key != "commandId") for record in finished.records]
    assert kinds == ["state", "output", "result"]
    assert finished.records[1]["output"]["data"] == "/w=="
    assert finished.records[2]["result"]["exitCode"] == 0


async def test_a_hundred_commands_from_one_call_all_end(service: FakeCommandService, server: str) -> None:
    service.on_queued = ends(service, exit_code=0)
    agents = [f"--agent=a{number}" for number in range(10)]

    finished = await run_sender(server, *agents, "--type=PING", "--repeat=10", "--wait", "-o", "jsonl")

    assert finished.code == 0
    assert {record["commandId"] for record in finished.records} == set(service.commands)
    assert len(finished.records) == 100
    assert finished.stderr == ("queued 100 of 100 commands for 10 agents\n100 of 100 commands ended: 100 completed\n")


async def test_progress_is_drawn_on_a_terminal_only_on_stderr(service: FakeCommandService, server: str) -> None:
    service.on_queued = ends(service, exit_code=0)
    ours, theirs = pty.openpty()
    process = await start_sender(
        server, "--agent=a1", "--type=PING", "--repeat=100", "--wait", "-o", "json", stderr=theirs
    )
    os.close(theirs)
    drawing = asyncio.get_running_loop().run_in_executor(None, _read_terminal, ours)
    stdout, _ = await process.communicate()

    assert b"\x1b[" in await drawing
    assert b"100/100" in await drawing
    assert b"\x1b" not in stdout


def _read_terminal(descriptor: int) -> bytes:
    pieces = []
    # Linux answers EIO once the other side is closed.
    try:
        while piece := os.read(descriptor, 65_536):
            pieces.append(piece)
    except OSError:
        pass
    os.close(descriptor)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("how", "arguments", "code"),
    [
        ({"exit_code": 0}, ["--wait"], 0),
        ({"exit_code": 3, "status": FAILED}, ["--wait"], 1),
        ({"exit_code": 3, "status": FAILED}, ["--follow"], 1),
        ({"exit_code": 3, "status": FAILED}, ["--wait", "--passthrough-exit-code"], 3),
        ({"exit_code": 3, "status": FAILED}, ["--follow", "--passthrough-exit-code"], 3),
        ({"exit_code": -9, "status": FAILED}, ["--wait", "--passthrough-exit-code"], 1),
        ({"status": TIMEOUT}, ["--wait", "--passthrough-exit-code"], 1),
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
    assert finished.stderr.splitlines()[-1] == (
        f"error: not ended after 0.1 s of waiting; left running: {' '.join(service.commands)}"
    )
    assert service.calls["CancelCommand"] == 0


async def test_a_timeout_still_shows_what_has_ended(service: FakeCommandService, server: str) -> None:
    service.on_queued = lambda command_id: service.finish(command_id) if len(service.commands) == 1 else None
    # Its result is still on its way when the wait is over.
    service.refuse("GetResult", Refusal(grpc.StatusCode.UNAVAILABLE, "busy", "BUSY", retry_after_ms=600))

    finished = await run_sender(
        server, "--agent=a1", "--type=X", "--repeat=2", "--wait", "--timeout=300ms", "-o", "json"
    )

    first, second = service.commands
    assert finished.code == 3
    assert [result["commandId"] for result in finished.document] == [first]
    assert finished.stderr.endswith(f"left running: {second}\n")


@pytest.mark.parametrize("stay", [["--follow"], ["--wait"], ["--wait", "--repeat=2"], ["--follow", "--repeat=2"]])
async def test_an_interrupt_leaves_the_commands_running_and_names_them(
    service: FakeCommandService, server: str, stay: list[str]
) -> None:
    process = await start_sender(server, "--agent=a1", "--type=EXEC", *stay)
    await service.until(lambda: service.calls["WatchCommand"] + service.calls["WatchCommands"] > 0)

    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    assert f"interrupted; left running: {' '.join(service.commands)}\n" in stderr.decode()
    assert service.calls["CancelCommand"] == 0


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
    process.stdout._transport.close()  # type: ignore[attr-defined]

    assert b"rror" not in await process.stderr.read()
    assert await process.wait() == 141


@pytest.mark.parametrize("command", [["get"], ["result"], ["cancel"], ["watch"]])
async def test_an_unknown_command_is_not_found(server: str, command: list[str]) -> None:
    finished = await run_sender(server, *command, UNKNOWN)

    assert (finished.code, finished.stdout) == (4, b"")
    assert finished.stderr == f"error: no command {UNKNOWN}\n"


async def test_what_is_found_is_shown_beside_what_is_not(service: FakeCommandService, server: str) -> None:
    command_id = await queued(service, "--agent=a1", "--type=PING", server=server)

    finished = await run_sender(server, "get", UNKNOWN, command_id, "-o", "jsonl")

    assert finished.code == 4
    assert [record["commandId"] for record in finished.records] == [command_id]


async def test_get_shows_the_time_between_the_stages(service: FakeCommandService, server: str) -> None:
    service.on_queued = ends(service, FAILED, reason="exit_nonzero")
    command_id = await queued(service, "--agent=a1", "--type=EXEC", server=server)

    text = (await run_sender(server, "get", command_id)).stdout.decode()

    assert "reason        exit_nonzero: exit nonzero" in text
    assert "  queued        2027-01-15T08:00:01.000Z\n  assigned      2027-01-15T08:00:02.000Z  +1.0 s\n" in text
    assert "  finished      2027-01-15T08:00:06.000Z  +1.0 s\n" in text


async def test_result(service: FakeCommandService, server: str) -> None:
    command_id = await queued(service, "--agent=a1", "--type=EXEC", server=server)
    early = await run_sender(server, "result", command_id)
    assert (early.code, early.stderr) == (6, "error: the command has not ended\n")

    service.finish(command_id, exit_code=0, data={"grüße": [1, None]})

    form = (await run_sender(server, "result", command_id, "-o", "json")).document
    assert (form["status"], form["exitCode"], form["data"]) == ("completed", 0, {"grüße": [1, None]})
    assert 'data          {"grüße": [1, null]}' in (await run_sender(server, "result", command_id)).stdout.decode()


async def test_cancel(service: FakeCommandService, server: str) -> None:
    command_id = await queued(service, "--agent=a1", "--type=EXEC", server=server)

    finished = await run_sender(server, "cancel", command_id, "--reason=mistake")

    assert finished.stdout.decode() == f"{command_id} is cancelled\n"
    assert service.requests[-1].reason == "mistake"


async def test_list(service: FakeCommandService, server: str) -> None:
    await run_sender(server, "--agent=a1", "--agent=a2", "--type=PING", "--repeat=2")
    filters = [
        "--agent=a1",
        "--status=queued",
        "--status=failed",
        "--type=PING",
        "--since=2h",
        "--until=2100-01-01T00:00Z",
    ]

    first = await run_sender(server, "list", *filters, "--limit=1", "-o", "json")
    token = first.document["nextPageToken"]
    second = await run_sender(server, "list", *filters, f"--page-token={token}", "-o", "json")

    ids = [row["commandId"] for page in (first, second) for row in page.document["commands"]]
    assert ids == list(reversed(service.commands))[2:]
    assert first.stderr == f"there are more: --page-token {token}\n"
    assert second.document["nextPageToken"] == ""
    wanted = service.requests[-1].filter
    assert wanted.queued_after.seconds < wanted.queued_before.seconds == 4_102_444_800


async def test_agents(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1", types=["EXEC"], labels={"zone": "eu"}, agent_version="evil \x1b[2J")
    service.connect_agent("a2")

    table = await run_sender(server, "agents")
    assert [line.split()[0] for line in table.stdout.decode().splitlines()] == ["AGENT", "a1", "a2"]
    assert b"\x1b" not in table.stdout, "what agents say does not drive the terminal"
    assert (await run_sender(server, "agents", "a1", "-o", "json")).document["labels"] == {"zone": "eu"}
    unknown = await run_sender(server, "agents", "nobody")
    assert (unknown.code, unknown.stderr) == (4, "error: no agent nobody\n")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 6),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 6),
        (grpc.StatusCode.PERMISSION_DENIED, 6),
        (grpc.StatusCode.INTERNAL, 5),
    ],
)
async def test_a_refusal_is_one_line(
    service: FakeCommandService, server: str, code: grpc.StatusCode, exit_code: int
) -> None:
    service.refuse("QueueCommand", Refusal(code, "first line\nsecond \x1b[31mline", "SOME_REASON"))

    finished = await run_sender(server, "--agent=a1", "--type=PING")

    assert finished.code == exit_code
    assert finished.stderr == "error: first line second \\x1b[31mline\n"


async def test_a_server_that_is_not_there() -> None:
    port = free_port()

    finished = await run_sender(f"127.0.0.1:{port}", "list")

    assert finished.code == 5
    assert finished.stderr == f"error: the server at 127.0.0.1:{port} cannot be reached: Connection refused\n"


async def test_the_option_goes_before_the_environment(server: str) -> None:
    for arguments in (
        ["--server", server, "list"],
        ["list", f"--server={server}"],
        [f"--server={server}", "--agent=a", "--type=T"],
    ):
        assert (await run_sender("127.0.0.1:1", *arguments)).code == 0


async def test_a_setting_that_does_not_exist(server: str, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[client]\nsrever = 'x:1'\n")

    finished = await run_sender(server, "--config", str(config), "list")

    assert finished.code == 2
    assert finished.stderr.startswith("error: unknown setting srever")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion(server: str, shell: str) -> None:
    finished = await run_sender(server, "completion", shell)

    assert finished.code == 0
    assert "_COMMAND_SENDER_COMPLETE" in finished.stdout.decode()


def test_help_is_quick_because_it_loads_nothing_slow() -> None:
    program = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'grpc', 'rich', 'pydantic', 'google'} & set(sys.modules)))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert finished.stdout.endswith("[]\n")
