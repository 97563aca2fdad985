"""`distributor demo`, as somebody who has just cloned the repository runs it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from distributor.client import ClientCredentials, ClientOptions, CommandClient, CommandRequest, CommandStatus
from distributor.errors import Unauthenticated
from tests.support.certificates import CertificateMaker
from tests.support.launched_server import (
    LaunchedServer,
    address_of,
    agent_of,
    command_line,
    descendants_of,
    end,
    gone,
    launched_server,
    somewhere,
)
from tests.support.waiting import until

RECEIPTS = ("queued", "assigned", "sent", "acknowledged", "started", "finished")


def shown_receipts(server: LaunchedServer) -> list[str]:
    """The stages that were printed with date, time and zone."""
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    lines = [re.match(rf"  (\w+) +{time}(  \+[\d.]+ m?s)?$", line) for line in server.stdout]
    return [match[1] for match in lines if match]


def with_token(data_dir: Path) -> ClientOptions:
    """Call as the user of `dev`."""
    return ClientOptions(credentials=ClientCredentials(token_file=data_dir / "dev-credentials" / "user.token"))


UNAME = """#!/bin/sh
# Once for each line: the second waits until it may be seen.
echo called >>"$0.calls"
while [ "$(wc -l <"$0.calls")" -gt 1 ] && ! [ -e "$0.go" ]; do sleep 0.05; done
exec /bin/uname "$@"
"""


async def test_once_shows_a_command_from_the_queue_to_its_result_and_leaves_nothing_running(tmp_path: Path) -> None:
    uname = tmp_path / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text(UNAME)
    uname.chmod(0o755)
    path = f"{uname.parent}:{os.environ['PATH']}"
    async with launched_server("demo", "--once", *somewhere(tmp_path / "data"), PATH=path) as demo:
        first = await demo.line("line 1 of 5")
        # Live: the program still runs.
        assert not any("line 2 of 5" in line for line in demo.stdout)
        started = descendants_of(demo.process.pid)
        assert len(started) >= 3, "Valkey, the agent and the program"
        assert first.startswith("  | ")
        uname.with_suffix(".go").touch()
        assert await demo.ended() == 0, demo.everything
        assert "  ! and one on stderr" in demo.stdout
        (result,) = [line for line in demo.stdout if line.startswith("Result")]
        assert re.fullmatch(r"Result, at cmd:result:[0-9a-f-]{36}: completed, exit code 0, \d+ bytes of output", result)
        assert tuple(shown_receipts(demo)) == RECEIPTS
        await gone(started)


async def test_a_command_that_fails_is_told_by_the_exit_code(tmp_path: Path) -> None:
    shell = tmp_path / "bin" / "sh"
    shell.parent.mkdir()
    shell.write_text("#!/bin/sh\nexit 3\n")
    shell.chmod(0o755)
    path = f"{shell.parent}:{os.environ['PATH']}"
    async with launched_server("demo", "--once", *somewhere(tmp_path / "data"), PATH=path) as demo:
        assert await demo.ended() == 1, demo.everything
        assert "distributor: the command ended failed: exited with 3" in demo.everything


@pytest.mark.parametrize("moment", ["line 2 of 5", "Ctrl-C stops everything"])
async def test_ctrl_c_stops_everything_cleanly(tmp_path: Path, moment: str) -> None:
    async with launched_server("demo", *somewhere(tmp_path)) as demo:
        await demo.line(moment)
        started = descendants_of(demo.process.pid)
        # As a terminal does it: to the whole process group.
        os.killpg(demo.process.pid, signal.SIGINT)
        assert await demo.ended() == 0, demo.everything
        assert "Traceback" not in demo.everything
        await gone(started)


async def test_ctrl_c_cancels_what_the_agent_runs(tmp_path: Path) -> None:
    """And the results are stored before the server goes."""
    async with launched_server("dev", *somewhere(tmp_path), "--log-level=info") as dev:
        await dev.line("epoch=1")
        async with CommandClient(address_of(dev), with_token(tmp_path)) as client:
            queued = await client.queue(CommandRequest("dev-agent", "EXEC", {"argv": ["sleep", "600"]}))
        await until(lambda: runs_sleep(dev))
        started = descendants_of(dev.process.pid)
        os.killpg(dev.process.pid, signal.SIGINT)
        assert await dev.ended() == 0, dev.everything
        await gone(started)
    async with launched_server("dev", *somewhere(tmp_path), "--log-level=info") as dev:
        await dev.line("epoch=2")
        async with CommandClient(address_of(dev), with_token(tmp_path)) as client:
            assert (await client.get(queued.command.command_id)).state.status is CommandStatus.CANCELLED


async def test_a_killed_demo_leaves_nothing_running(tmp_path: Path) -> None:
    async with launched_server("demo", *somewhere(tmp_path)) as demo:
        await demo.line("Ctrl-C stops everything")
        started = descendants_of(demo.process.pid)
        demo.process.kill()
        try:
            await gone(started)
        except TimeoutError:
            end(started)
            raise


async def test_a_killed_agent_is_started_again_with_a_line_that_says_so(tmp_path: Path) -> None:
    async with launched_server("demo", *somewhere(tmp_path), "--log-level=info") as demo:
        await demo.line("Ctrl-C stops everything")
        agent = agent_of(demo)
        os.kill(agent, signal.SIGKILL)
        assert "exit_code=-9" in await demo.line("the agent ended, restarting it")
        # No zombie is left of it, and the new one attaches.
        await demo.line("epoch=2")
        assert agent not in descendants_of(demo.process.pid)
        assert agent_of(demo) != agent


def runs_sleep(server: LaunchedServer) -> bool:
    """Whether the program of the command has begun."""
    return any(command_line(pid).startswith(b"sleep\0") for pid in descendants_of(server.process.pid))


@pytest.mark.parametrize("option", ["listen", "http-listen", "bridge-listen"])
async def test_only_on_loopback(tmp_path: Path, option: str) -> None:
    async with launched_server("demo", *somewhere(tmp_path), f"--{option}=0.0.0.0:0") as demo:
        assert await demo.ended() == 2, demo.everything
        (line,) = demo.stderr
        assert f"dev and demo listen only on loopback, not on 0.0.0.0:0 ({option})" in line


async def test_tls_between_its_parts_is_refused(tmp_path: Path) -> None:
    files = CertificateMaker().server().write(tmp_path, "server")
    options = [f"--tls-cert={files.certificate}", f"--tls-key={files.key}"]
    async with launched_server("demo", *somewhere(tmp_path / "data"), *options) as demo:
        assert await demo.ended() == 2, demo.everything
        (line,) = demo.stderr
        assert "dev and demo use plain text on loopback: unset tls_cert in [server]" in line


async def test_strangers_on_this_machine_get_nothing(tmp_path: Path) -> None:
    async with launched_server("dev", *somewhere(tmp_path), "--log-level=info") as dev:
        await dev.line("context dev of command-sender")
        async with CommandClient(address_of(dev)) as client:
            with pytest.raises(Unauthenticated):
                await client.queue(CommandRequest("dev-agent", "EXEC", {"argv": ["true"]}))
