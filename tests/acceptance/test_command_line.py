"""From a shell to real agents and back: every program is launched as a user would launch it."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.launched_programs import launched_agent, launched_server
from tests.support.launched_sender import ROOT, Finished, run_sender, start_sender

AGENTS = [f"agent-{number}" for number in range(10)]


@pytest.fixture(scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server with ten agents."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(launched_server(tmp_path_factory.mktemp("data")))
        for agent in AGENTS:
            await stack.enter_async_context(launched_agent(address, agent, DISTRIBUTOR_AGENT_STOP_GRACE="0.5"))
        yield address


async def follow(address: str, program: str, *options: str) -> Finished:
    """Run a Python program on the first agent and follow it."""
    return await run_sender(address, "--agent=agent-0", "--follow", *options, "--", sys.executable, "-c", program)


async def test_output_is_followed_live_and_both_streams_arrive(address: str) -> None:
    program = "import sys; print('one'); print('two', file=sys.stderr)"

    finished = await follow(address, program)

    assert (finished.code, finished.stdout) == (0, b"one\n")
    assert "\ntwo\n" in finished.stderr


async def test_a_megabyte_arrives_exactly(address: str) -> None:
    finished = await follow(address, "import sys; sys.stdout.buffer.write(bytes(range(250)) * 4_000)")

    assert finished.code == 0
    assert hashlib.sha256(finished.stdout).digest() == hashlib.sha256(bytes(range(250)) * 4_000).digest()


async def test_all_of_twenty_megabytes_reaches_a_slow_reader(address: str) -> None:
    numbered = "b''.join(b'%07d\\n' % number for number in range(2_500_000))"
    program = f"import sys; sys.stdout.buffer.write({numbered})"
    options = ["--agent=agent-0", "--follow", "--", sys.executable, "-c", program]
    expected = hashlib.sha256(eval(numbered)).digest()
    sender = await start_sender(address, *options)
    assert sender.stdout
    read = hashlib.sha256()
    while data := await sender.stdout.read(65_536):
        read.update(data)
        await asyncio.sleep(0.015)

    assert (await sender.wait(), read.digest()) == (0, expected)


async def test_bytes_that_are_not_utf8_arrive_exactly(address: str) -> None:
    finished = await follow(address, r"import sys; sys.stdout.buffer.write(b'\xff\xfe\x00\xc3')")

    assert (finished.code, finished.stdout) == (0, b"\xff\xfe\x00\xc3")


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--passthrough-exit-code",), 3)])
async def test_a_program_that_exits_with_three(address: str, options: tuple[str, ...], code: int) -> None:
    finished = await follow(address, "raise SystemExit(3)", *options)

    assert finished.code == code
    assert "failed, exit code 3 (exit_nonzero" in finished.stderr


async def test_a_program_that_ignores_term_is_cancelled_all_the_same(address: str) -> None:
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    arguments = ["--agent=agent-1", "--follow", "--", sys.executable, "-c", program]
    process = await start_sender(address, *arguments)
    assert process.stdout
    assert await process.stdout.readline() == b"deaf\n"
    running = await run_sender(address, "list", "--agent=agent-1", "--status=assigned", "-o", "json")
    (command,) = running.document["commands"]

    cancelled = await run_sender(address, "cancel", command["commandId"])
    _, stderr = await process.communicate()

    assert cancelled.stdout.decode() == f"{command['commandId']} will be stopped by its agent\n"
    assert process.returncode == 1
    assert b" cancelled (cancelled" in stderr


async def test_a_hundred_commands_for_ten_agents_from_one_call(address: str) -> None:
    agents = [f"--agent={agent}" for agent in AGENTS]

    finished = await run_sender(address, *agents, "--repeat=10", "--wait", "-o", "jsonl", "--", "true")

    assert finished.code == 0, finished.stderr
    assert sorted(record["agentId"] for record in finished.records) == sorted(AGENTS * 10)
    assert finished.stderr.endswith("100 of 100 commands ended: 100 completed\n")


async def test_get_tells_every_stage(address: str) -> None:
    finished = await run_sender(address, "--agent=agent-0", "--type=PING", "--wait", "-o", "json")

    form = (await run_sender(address, "get", finished.document["commandId"], "-o", "json")).document

    times = list(form["receipts"].values())
    assert None not in times
    assert times == sorted(times)


async def test_what_the_server_refuses(address: str) -> None:
    unknown = await run_sender(address, "get", "01980000-0000-7000-8000-ffffffffffff")
    assert unknown.code == 4
    large = b'{"text": "' + b"x" * 300_000 + b'"}'
    refused = await run_sender(address, "--agent=agent-0", "--type=PING", "--params-json=-", stdin=large)
    assert refused.code == 6
    assert "command.params is 300," in refused.stderr
    malformed = await run_sender(address, "list", "--page-token=nonsense")
    assert (malformed.code, malformed.stderr.count("\n")) == (6, 1)
    offline = await run_sender(address, "--agent=nobody", "--type=PING", "--offline=fail")
    assert offline.code == 6


async def test_the_documented_call_stops_an_agent(address: str) -> None:
    async with launched_agent(address, "agent123") as agent:
        finished = await run_sender(address, "--agent=agent123", "--type=STOP", "--params=reason=test", "--wait")

        assert finished.code == 0, finished.stderr
        assert await agent.wait() == 0


@pytest.mark.parametrize(
    ("example", "arguments"),
    [("queue_and_follow.py", ["agent-2", "echo", "hello"]), ("many_commands.py", ["agent-2", "agent-3"])],
)
async def test_the_examples_of_the_client_run(address: str, example: str, arguments: list[str]) -> None:
    finished = await run_sender(address, *arguments, launcher=ROOT / "examples" / example)

    assert finished.code == 0, finished.stderr
    assert finished.stdout in (b"hello\n", b"queued 200 of 200\n{'completed': 200}\n")
