"""command-sender and its surroundings: a server that refuses or is away, settings, the shell."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.support.answered_errors import Refusal
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.launched_sender import LAUNCHER, ROOT, run_sender, start_sender
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer
from tests.support.terminal import Terminal


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 6),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 6),
        (grpc.StatusCode.PERMISSION_DENIED, 6),
        (grpc.StatusCode.INTERNAL, 5),
    ],
)
async def test_a_refusal_is_one_line(faults: RpcFaults, server: str, code: grpc.StatusCode, exit_code: int) -> None:
    faults.refuse("QueueCommand", Refusal(code, "first line\nsecond \x1b[31mline", "SOME_REASON"))

    finished = await run_sender(server, "--agent=a1", "--type=PING")

    assert finished.code == exit_code
    assert finished.stderr == "error: first line second \\x1b[31mline\n"


async def test_a_server_that_is_not_there(port: int) -> None:
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


@pytest.mark.parametrize(
    ("setting", "is_compressed"),
    [("compression = 'gzip'", True), ("compression = 'off'", False), ("compression_threshold = 100_000", True)],
)
async def test_compression_of_calls_is_a_setting(
    running: RunningServer, tmp_path: Path, setting: str, is_compressed: bool
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f"[client]\n{setting}\n")
    command_id = await running.queue(params={"text": "all work and no play " * 500})

    def compressed_bytes() -> float:
        name = "distributor_compression_compressed_bytes_total"
        return running.process.metrics.registry.get_sample_value(name, {"what": "sent_to_callers"}) or 0.0

    before = compressed_bytes()
    finished = await run_sender(running.address, "--config", str(config), "get", command_id)

    assert "all work and no play" in finished.stdout.decode()
    # The threshold is that of the caller's own messages: the server has another.
    assert (compressed_bytes() > before) is is_compressed


@pytest.mark.parametrize(
    ("arguments", "redirection", "complaint"),
    [
        (["agents"], ">&-", "standard output is closed"),
        (["agents"], ">/dev/full", "No space left on device"),
        (["--help"], ">/dev/full", "No space left on device"),
    ],
)
async def test_a_standard_output_that_takes_nothing(
    server: str, arguments: list[str], redirection: str, complaint: str
) -> None:
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable, str(LAUNCHER), "--server", server, *arguments,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _, stderr = await shell.communicate()

    assert stderr.decode() == f"error: cannot write: {complaint}\n"
    assert shell.returncode == 1


async def test_a_command_whose_receipt_could_not_be_shown_is_not_queued(running: RunningServer) -> None:
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, str(LAUNCHER), "--server", running.address,
        "--agent=a1", "--type=PING", env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert await shell.wait() == 1
    assert await running.ids() == []


async def test_a_closed_standard_error_keeps_nothing_from_working(server: str, agent: DrivenAgent) -> None:
    async def run(agent: DrivenAgent, command_id: str) -> None:
        await agent.print(command_id, b"oops", stderr=True)
        await agent.print(command_id, b"fine")
        await agent.finish(command_id)

    async with driven_agent(server, "a2") as other:
        for one in (agent, other):
            one.each(partial(run, one))
        shell = await asyncio.create_subprocess_exec(
            "sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, str(LAUNCHER), "--server", server,
            "--agent=a1", "--agent=a2", "--type=EXEC", "--follow",
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        stdout, _ = await shell.communicate()

    assert (shell.returncode, sorted(stdout.splitlines())) == (0, [b"a1 | fine", b"a2 | fine"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion(server: str, shell: str) -> None:
    finished = await run_sender(server, "completion", shell)

    assert finished.code == 0
    assert "_COMMAND_SENDER_COMPLETE" in finished.stdout.decode()


async def test_completion_knows_the_options_of_send_without_its_name(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_COMMAND_SENDER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "command-sender --agent a1 --pri")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert (await run_sender(server)).stdout == b"plain,--priority\n"

    monkeypatch.setenv("COMP_WORDS", "command-sender --")
    monkeypatch.setenv("COMP_CWORD", "1")
    offered = (await run_sender(server)).stdout.decode().split()
    assert {"plain,--agent", "plain,--server", "plain,--version"} <= set(offered)
    assert len(offered) == len(set(offered))


async def test_the_lists_fit_on_a_terminal(server: str) -> None:
    saying = {"types": ["EXEC", "PING", "STOP", "GREET", "COPY"], "agent_version": "distributor/0.1"}
    async with driven_agent(server, "dev-agent", **saying):
        await run_sender(server, "--agent=dev-agent", "--type=EXEC", "--params=argv=a-long-command-line", "--repeat=2")
        for arguments in (["list"], ["agents"]):
            async with Terminal(columns=80) as terminal:
                process = await start_sender(server, *arguments, stdout=terminal.theirs)
                assert await process.wait() == 0
            assert max(map(len, terminal.lines)) <= 80
            assert "dev-agent" in terminal.lines[1]


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
