"""command-sender retry: ended commands queued again."""

from __future__ import annotations

import asyncio
import signal

import pytest

from distributor.v1.command_service_pb2 import CancelCommandRequest
from tests.support.launched_sender import Finished, run_sender, start_sender
from tests.support.running_server import RunningServer
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE_SECONDS

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"


async def cancelled(running: RunningServer, count: int = 1, agent_id: str = "a1") -> list[str]:
    """Ids of cancelled commands, in order of queueing."""
    ids = await running.queue_many(count, agent_id, params={"n": 1})
    for command_id in ids:
        await running.commands.CancelCommand(CancelCommandRequest(command_id=command_id))
    return ids


async def origin(running: RunningServer, command_id: str) -> str:
    retry_of: str = (await running.get(command_id)).command.retry_of
    return retry_of


def pairs(finished: Finished) -> dict[str, str]:
    """New ids by old, as printed."""
    return dict(line.split(" → ") for line in finished.stdout.decode().splitlines())


async def test_each_id_is_shown_with_the_new_one(running: RunningServer) -> None:
    ids = await cancelled(running, 2)
    finished = await run_sender(running.address, "retry", *ids)
    assert (finished.code, finished.stderr) == (0, "")
    shown = pairs(finished)
    assert list(shown) == ids
    assert [await origin(running, new) for new in shown.values()] == ids
    got = await run_sender(running.address, "get", shown[ids[0]])
    assert f"retry of      {ids[0]}\n" in got.stdout.decode()
    document = (await run_sender(running.address, "get", shown[ids[0]], "-o", "json")).document
    assert document["retryOf"] == ids[0]


async def test_the_same_key_queues_again_once(running: RunningServer) -> None:
    (ended,) = await cancelled(running)
    first, second = [pairs(await run_sender(running.address, "retry", ended, "--idempotency-key=k")) for _ in range(2)]
    assert first == second
    refused = await run_sender(running.address, "retry", ended, f"--idempotency-key={'k' * 101}")
    assert (refused.code, refused.stdout) == (6, b"")
    assert refused.stderr.startswith("error: idempotency_key must be at most 100 ")


async def test_a_filter_that_matches_nothing_says_so(running: RunningServer) -> None:
    finished = await run_sender(running.address, "retry", "--agent=nobody", "--yes")
    assert (finished.code, finished.stdout) == (0, b"")
    assert finished.stderr == "no ended command matches, nothing was queued\n"


async def test_what_cannot_be_queued_again_is_an_error_beside_the_others(running: RunningServer) -> None:
    (ended,) = await cancelled(running)
    unended = await running.queue("a1")
    finished = await run_sender(running.address, "retry", UNKNOWN, ended, unended)
    assert finished.code == 4, "the code of the first error"
    assert list(pairs(finished)) == [ended]
    assert finished.stderr.splitlines() == [
        f"error: {UNKNOWN} was not queued again: there is no command {UNKNOWN}, or it is no longer kept",
        f"error: {unended} was not queued again: command {unended} has not ended: it is queued",
    ]
    document = (await run_sender(running.address, "retry", ended, unended, "-o", "json")).document
    assert (document["matched"], document["more"]) == (1, False)
    first, second = document["commands"]
    assert (await origin(running, first["newCommandId"]), first["error"]) == (ended, None)
    assert (second["commandId"], second["newCommandId"]) == (unended, None)
    assert second["error"]["reason"] == "NOT_ENDED"
    records = (await run_sender(running.address, "retry", ended, unended, "-o", "jsonl")).records
    assert [record["commandId"] for record in records] == [ended, unended]


async def test_a_dry_run_only_counts(running: RunningServer) -> None:
    await cancelled(running, 3)
    before = await running.ids()
    where = ["retry", "--agent=a1", "--dry-run"]
    finished = await run_sender(running.address, *where)
    assert (finished.code, finished.stdout) == (0, b"3 commands can be queued again\n")
    finished = await run_sender(running.address, *where, "--limit=2")
    assert finished.stdout == b"2 commands can be queued again; more match than the --limit of 2\n"
    counted = {"matched": 1, "more": True}
    assert (await run_sender(running.address, *where, "--limit=1", "-o", "json")).document == counted
    assert (await run_sender(running.address, *where, "--limit=1", "-o", "jsonl")).records == [counted]
    assert await running.ids() == before


async def test_options_choose_the_commands(running: RunningServer) -> None:
    ids = await cancelled(running, 2)
    await cancelled(running, agent_id="a2")
    finished = await run_sender(
        running.address, "retry", "--agent=a1", "--type=PRINT", "--status=cancelled", "--since=1h", "--yes"
    )
    assert finished.code == 0
    assert list(pairs(finished)) == ids[::-1], "newest first"
    limited = await run_sender(running.address, "retry", "--agent=a1", "--limit=1", "--yes")
    assert list(pairs(limited)) == [ids[1]]
    assert limited.stderr == "more match than the --limit of 1\n"
    nothing = await run_sender(running.address, "retry", "--agent=a1", "--until=1h", "--yes")
    assert (nothing.code, nothing.stdout) == (0, b"")


async def test_without_a_terminal_a_filter_needs_a_decision(running: RunningServer) -> None:
    await cancelled(running)
    before = await running.ids()
    finished = await run_sender(running.address, "retry", "--agent=a1", stdin=b"y\n")
    assert (finished.code, finished.stdout) == (2, b"")
    assert finished.stderr == (
        "error: without a terminal to ask on, add --yes to queue what matches again, or --dry-run to only count it\n"
    )
    assert await running.ids() == before


@pytest.mark.parametrize(("answer", "retried"), [("y\n", 2), ("n\n", 0), ("\n", 0), ("\x04", 0)])
async def test_a_filter_is_counted_and_a_question_asked(running: RunningServer, answer: str, retried: int) -> None:
    await cancelled(running, 2)
    before = await running.ids()
    async with Terminal() as terminal:
        terminal.type(answer)
        process = await start_sender(running.address, "retry", "--agent=a1", stdin=terminal.theirs)
        async with asyncio.timeout(PATIENCE_SECONDS):
            stdout, stderr = await process.communicate()
    assert process.returncode == 0
    assert stderr == b"2 commands can be queued again\nQueue them again? [y/N]: "
    assert (len(stdout.splitlines()), len(await running.ids())) == (retried, len(before) + retried)


async def test_nothing_is_asked_if_nothing_matches(running: RunningServer) -> None:
    async with Terminal() as terminal:
        process = await start_sender(running.address, "retry", "--agent=a1", stdin=terminal.theirs)
        async with asyncio.timeout(PATIENCE_SECONDS):
            stdout, stderr = await process.communicate()
    assert (process.returncode, stdout, stderr) == (0, b"", b"0 commands can be queued again\n")


async def test_the_question_can_be_interrupted(running: RunningServer) -> None:
    await cancelled(running)
    before = await running.ids()
    async with Terminal() as terminal:
        process = await start_sender(running.address, "retry", "--agent=a1", stdin=terminal.theirs)
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.stderr.readuntil(b"[y/N]: ")
            process.send_signal(signal.SIGINT)
            await process.communicate()
    assert process.returncode == 130
    assert await running.ids() == before
