"""Looking at commands and agents with command-sender."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from distributor.cli.sender.tables import span_text
from distributor.wire.documents import time_text
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.launched_sender import run_sender
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import FAILED, RunningServer

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"


async def queued(server: str, command_type: str) -> str:
    finished = await run_sender(server, "--agent=a1", f"--type={command_type}", "-o", "json")
    return str(finished.document["commandId"])


@pytest.mark.parametrize("command", [["get"], ["result"], ["cancel"], ["watch"]])
async def test_an_unknown_command_is_not_found(server: str, command: list[str]) -> None:
    finished = await run_sender(server, *command, UNKNOWN)

    assert (finished.code, finished.stdout) == (4, b"")
    assert finished.stderr == f"error: there is no command {UNKNOWN}, or it is no longer kept\n"


async def test_what_is_found_is_shown_beside_what_is_not(server: str) -> None:
    command_id = await queued(server, "PING")

    finished = await run_sender(server, "get", UNKNOWN, command_id, "-o", "jsonl")

    assert finished.code == 4
    assert [record["commandId"] for record in finished.records] == [command_id]


async def test_get_shows_the_time_between_the_stages(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await queued(running.address, "EXEC")
    await agent.start(command_id)
    await agent.finish(command_id, FAILED, reason="exit_nonzero")

    text = (await run_sender(running.address, "get", command_id)).stdout.decode()

    receipts = (await running.state(command_id)).receipts
    passed = [
        (stage, getattr(receipts, f"{name}_time").ToMilliseconds())
        for stage, name in (
            ("queued", "queue"),
            ("assigned", "assign"),
            ("sent", "send"),
            ("acknowledged", "acknowledge"),
            ("started", "start"),
            ("finished", "finish"),
        )
    ]
    later = [
        f"  {stage:<12}  {time_text(ms)}  +{span_text(ms - before)}\n" for (_, before), (stage, ms) in pairwise(passed)
    ]
    assert "reason        exit_nonzero: exit nonzero" in text
    assert f"  queued        {time_text(passed[0][1])}\n{''.join(later)}" in text


async def test_result(server: str) -> None:
    command_id = await queued(server, "EXEC")
    early = await run_sender(server, "result", command_id)
    assert (early.code, early.stderr) == (6, f"error: command {command_id} has not ended: it is queued\n")

    async with driven_agent(server) as agent:
        await agent.finish(command_id, exit_code=0, data={"grüße": [1, None]})

    form = (await run_sender(server, "result", command_id, "-o", "json")).document
    assert (form["status"], form["exitCode"], form["data"]) == ("completed", 0, {"grüße": [1, None]})
    assert 'data          {"grüße": [1, null]}' in (await run_sender(server, "result", command_id)).stdout.decode()


async def test_get_and_result_show_each_attempt(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await running.queue("a1", max_runs=2)
    await agent.start(command_id)
    await agent.finish(command_id, FAILED, reason="flaky", transient=True)
    again = await agent.wire.next_assignment(command_id, attempt=2)
    await agent.wire.finish(again, status=FAILED, exit_code=4)

    for action in ("get", "result"):
        text = (await run_sender(running.address, action, command_id)).stdout.decode()
        assert "exit code     4\n" in text
        assert "attempt       2\n" in text
        assert text.splitlines()[-1].startswith("  attempt 1     assigned 20")
        assert text.endswith(": flaky: flaky\n")


async def test_get_shows_a_late_report(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await queued(running.address, "EXEC")
    await agent.start(command_id)
    await agent.finish(command_id, FAILED, reason="exit_nonzero")
    assert "late report" not in (await run_sender(running.address, "get", command_id)).stdout.decode()
    await agent.finish(command_id, exit_code=0, data={"n": 1})

    text = (await run_sender(running.address, "get", command_id)).stdout.decode()
    form = (await run_sender(running.address, "get", command_id, "-o", "json")).document

    late = form["lateResult"]
    assert (form["status"], late["status"], late["data"]) == ("failed", "completed", {"n": 1})
    assert (
        f"late report   completed, exit code 0; came at {late['finishTime']}, after the end, and changes nothing\n"
        in text
    )


async def test_cancel(server: str, faults: RpcFaults) -> None:
    command_id = await queued(server, "EXEC")

    finished = await run_sender(server, "cancel", command_id, "--reason=mistake")

    assert finished.stdout.decode() == f"{command_id} is cancelled\n"
    assert faults.requests[-1].reason == "mistake"


async def test_what_the_server_did_not_tell_is_null(server: str, agent: DrivenAgent) -> None:
    command_id = await queued(server, "EXEC")
    await agent.start(command_id)
    await agent.print(command_id, b"6bytes")

    def told(form: dict[str, Any]) -> tuple[object, ...]:
        return form["commandId"], form["agentId"], form["type"], form["agentKnown"], form["outputBytes"]

    (listed,) = (await run_sender(server, "list", "-o", "jsonl")).records
    got = (await run_sender(server, "get", command_id, "-o", "json")).document
    cancelled = (await run_sender(server, "cancel", command_id, "-o", "json")).document
    await agent.finish(command_id)
    watched = (await run_sender(server, "watch", command_id, "-o", "jsonl")).records
    (state,) = [record["state"] for record in watched if "state" in record]
    *_, result = watched

    assert told(cancelled) == told(state) == (command_id, "a1", "EXEC", None, None)
    assert told(listed) == (command_id, "a1", "EXEC", True, None)
    assert told(got) == (command_id, "a1", "EXEC", True, 6)
    assert result["result"]["outputBytes"] == 6


async def test_list(running: RunningServer, faults: RpcFaults) -> None:
    server = running.address
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
    wanted = faults.requests[-1].filter
    assert ids == list(reversed(await running.ids()))[2:]
    assert first.stderr == f"there are more: --page-token {token}\n"
    assert second.document["nextPageToken"] == ""
    assert wanted.queued_after.seconds < wanted.queued_before.seconds == 4_102_444_800


async def test_a_list_says_what_each_command_does(server: str) -> None:
    await run_sender(server, "--agent=a1", "--type=PING")
    await run_sender(server, "--agent=a1", "--type=PING", "--params=zone=b", "--params=count=2")

    table = (await run_sender(server, "list")).stdout.decode().splitlines()
    document = (await run_sender(server, "list", "-o", "json")).document

    assert table[0].endswith("REASON  PARAMS")
    assert [line.endswith("count=2 zone=b") for line in table[1:]] == [True, False]
    assert [row["paramsSummary"] for row in document["commands"]] == ["count=2 zone=b", ""]


async def test_agents(server: str) -> None:
    saying = {"types": ["EXEC"], "labels": {"zone": "eu"}, "agent_version": "evil \x1b[2J"}
    async with driven_agent(server, "a1", **saying), driven_agent(server, "a2"):
        pass

    async with driven_agent(server, "a2"):
        away = await run_sender(server, "agents", "--status=offline", "--status=busy", "-o", "jsonl")
    assert [agent["agentId"] for agent in away.records] == ["a1"]
    table = await run_sender(server, "agents")
    assert [line.split()[0] for line in table.stdout.decode().splitlines()] == ["AGENT", "a1", "a2"]
    assert b"\x1b" not in table.stdout, "what agents say does not drive the terminal"
    assert (await run_sender(server, "agents", "a1", "-o", "json")).document["labels"] == {"zone": "eu"}
    unknown = await run_sender(server, "agents", "nobody")
    assert (unknown.code, unknown.stderr) == (4, "error: agent 'nobody' has never connected, or not for a long time\n")
