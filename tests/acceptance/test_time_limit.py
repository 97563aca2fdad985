"""A program that does not listen, on a real agent, and a time limit."""

from __future__ import annotations

import pytest

from distributor.agent.process_table import group_members
from distributor.client import CommandClient, CommandRequest, CommandResult, CommandStatus, OutputChunk
from tests.support.launched_programs import launched_agent
from tests.support.running_server import running_server
from tests.support.waiting import PATIENCE_SECONDS

PROGRAM = """
trap '' TERM
tell_group() { read -r _ _ _ _ group _ </proc/self/stat; echo "$group"; }
# Twice the same number: both processes are in the group of the first.
{ tell_group; exec sleep 600; } &
tell_group
exec sleep 600
"""


async def test_a_program_that_ignores_term_is_killed_with_its_children(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_AGENT_STOP_GRACE", "0.2")
    async with (
        running_server(valkey_url) as server,
        launched_agent(server.address, "agent123"),
        CommandClient(server.address) as client,
    ):
        request = CommandRequest("agent123", "EXEC", {"argv": ["sh", "-c", PROGRAM]}, time_limit_seconds=1.5)
        command_id = (await client.queue(request)).command.command_id
        printed = b""
        async for update in client.watch(command_id):
            if isinstance(update, OutputChunk):
                printed += update.data
            elif isinstance(update, CommandResult):
                assert (update.status, update.reason.code) == (CommandStatus.TIMEOUT, "time_limit")
        first, second = printed.split()
        assert first == second
        # `timeout` is published only once nothing of it runs.
        assert not group_members(int(first))


async def test_a_program_is_ended_when_it_is_silent_and_not_while_it_prints(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_AGENT_CAPACITY", "2")
    async with (
        running_server(valkey_url) as server,
        launched_agent(server.address, "agent123"),
        CommandClient(server.address) as client,
    ):
        prints = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; echo $i; done"
        silent, talking = [
            (
                await client.queue(
                    CommandRequest("agent123", "EXEC", {"argv": ["sh", "-c", line]}, idle_limit_seconds=1.5)
                )
            ).command.command_id
            for line in ("echo begun; exec sleep 600", prints)
        ]
        result = await client.wait(silent)
        assert (result.status, result.reason.code) == (CommandStatus.TIMEOUT, "idle_limit")
        receipts = (await client.get(silent)).state.receipts
        assert 1_500 <= receipts.finished_ms - receipts.started_ms < 1_500 + PATIENCE_SECONDS * 1_000
        assert (await client.wait(talking)).status is CommandStatus.COMPLETED
