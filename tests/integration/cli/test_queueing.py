"""Queueing with command-sender, through its launcher."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import MessageToDict

from distributor.v1 import command_pb2
from distributor.wire.documents import time_text
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.launched_sender import Finished, run_sender
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer


async def queued(server: RunningServer) -> list[command_pb2.Command]:
    """All commands that the server keeps, the oldest first."""
    return [(await server.get(command_id)).command for command_id in await server.ids()]


@pytest.mark.parametrize("command", [(), ("send",)])
async def test_the_documented_call_queues_the_command(running: RunningServer, command: tuple[str, ...]) -> None:
    async with driven_agent(running.address, "agent123"):
        finished = await run_sender(
            running.address, *command, "--agent=agent123", "--type=STOP", "--params=reason=test"
        )

    (stored,) = await queued(running)
    assert (stored.agent_id, stored.type) == ("agent123", "STOP")
    assert dict(stored.params) == {"reason": "test"}
    assert finished.code == 0
    command_id = stored.command_id
    assert finished.stdout.decode() == f"{command_id} queued: STOP for agent123 (the agent is connected)\n"
    assert finished.stderr == f"watch it with: command-sender watch {command_id}\n"


async def ping(server: str, agent: str, *options: str) -> Finished:
    return await run_sender(server, f"--agent={agent}", "--type=PING", *options)


async def test_it_says_that_the_agent_is_away_and_since_when(running: RunningServer) -> None:
    async with driven_agent(running.address, "a1"):
        pass
    since = time_text((await running.until_away("a1")).away_since.ToMilliseconds())
    server = running.address

    assert f"(the agent has been away since {since};" in (await ping(server, "a1")).stdout.decode()
    assert b"has never connected" in (await ping(server, "a2")).stdout
    assert (await ping(server, "a1", "--offline=fail")).code == 6


async def test_every_option_reaches_the_command(faults: RpcFaults, server: str) -> None:
    finished = await run_sender(
        server, "--agent=a1", "--type=COPY", "--params=text=1,2=3", "--params-json=-", "--priority=high",
        "--time-limit=2m", "--idle-limit=5s", "--max-runs=2", "--max-runs-for=flaky=3", "--max-runs-for=exit_nonzero=5",
        "--queue-ttl=1h", "--slots=3", "--idempotency-key=k", "--output=json", stdin=b'{"n": 1, "list": [true]}',
    )  # fmt: skip

    form = finished.document
    assert form["params"] == {"text": "1,2=3", "n": 1, "list": [True]}
    assert (form["priority"], form["timeLimitSeconds"], form["queueTtlSeconds"]) == (75, 120, 3600)
    assert (form["idleLimitSeconds"], form["slots"]) == (5, 3)
    assert form["maxRuns"] == 2
    assert form["maxRunsByReason"] == {"flaky": 3, "exit_nonzero": 5}
    assert (form["status"], form["alreadyQueued"]) == ("queued", False)
    assert form["receipts"]["queueTime"].endswith("Z")
    assert form["receipts"]["startTime"] is None
    assert faults.requests[0].idempotency_key == "k"


async def test_what_follows_two_dashes_is_a_program_to_run(running: RunningServer) -> None:
    await run_sender(running.address, "--agent=a1", "--", "sh", "-c", "echo --agent")

    (stored,) = await queued(running)
    assert stored.type == "EXEC"
    assert MessageToDict(stored.params)["argv"] == ["sh", "-c", "echo --agent"]


async def test_commands_come_from_a_file(running: RunningServer) -> None:
    lines = b'{"agentId": "a1", "type": "PING", "priority": 0, "timeLimitSeconds": 1.5}\n\n{"params": {"n": 1}}\n'

    finished = await run_sender(
        running.address, "--input=-", "--agent=a2", "--agent=a3", "--type=STOP", "-o", "jsonl", stdin=lines
    )

    commands = await queued(running)
    assert [(c.agent_id, c.type, c.priority) for c in commands] == [
        ("a1", "PING", 0),
        ("a2", "STOP", 50),
        ("a3", "STOP", 50),
    ]
    assert commands[0].time_limit.ToMilliseconds() == 1_500
    assert [record["commandId"] for record in finished.records] == [c.command_id for c in commands]
    assert finished.stderr == ("queued 3 of 3 commands for 3 agents\nthe agents a1, a2, a3 have never connected\n")


SET_BY_THE_SERVER = {
    "commandId", "paramsSummary", "status", "attempt", "reason", "receipts", "cancelTime", "cancelStage",
    "agentKnown", "agentAwaySince", "outputBytes", "revision", "attempts", "retryOf", "lateResult", "progressTime",
    "requestedBy", "signedBy",
}  # fmt: skip


async def test_a_document_of_get_without_what_the_server_sets_queues_the_same_command(running: RunningServer) -> None:
    line = b"""{"agentId": "a1", "type": "COPY", "params": {"n": 1, "list": [true, null, 0.5]}, "priority": 7,
        "timeLimitSeconds": 1.5, "idleLimitSeconds": 0.5, "queueTtlSeconds": 60, "offline": "queue",
        "maxRuns": 3, "maxRunsByReason": {"flaky": 5}, "slots": 4, "secretParams": ["/other"]}""".replace(b"\n", b"")
    await run_sender(running.address, "--input=-", stdin=line)

    got = []
    for _ in range(2):
        command_id = (await running.ids())[-1]
        document = (await run_sender(running.address, "get", command_id, "-o", "json")).document
        got.append({name: value for name, value in document.items() if name not in SET_BY_THE_SERVER})
        assert (await run_sender(running.address, "--input=-", stdin=json.dumps(got[-1]).encode())).code == 0

    assert got == [json.loads(line)] * 2


async def test_what_fits_into_no_message_is_not_sent(running: RunningServer) -> None:
    large = b'{"agentId": "a1", "type": "PING", "params": {"text": "' + b"x" * 9_000_000 + b'"}}\n'

    finished = await run_sender(running.address, "--input=-", stdin=b'{"agentId": "a1", "type": "PING"}\n' + large)

    assert finished.code == 6
    assert finished.stderr.startswith("error: command.params is 9,000,021 bytes, the limit is 8,388,608 for a whole")
    assert await running.ids() == []


async def test_what_is_refused_for_the_same_reason_is_told_once(server: str) -> None:
    finished = await run_sender(
        server, *(f"--agent=a{n}" for n in range(12)), "--type=PING", "--offline=fail", "--repeat=3"
    )

    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0] == (
        "error: PING for a0 was not queued: "
        "agent 'a0' has never connected, and the command must not wait for it (3 times)"
    )
    assert len(errors) == 11
    assert errors[-1] == "error: 6 more commands not queued"


async def test_a_batch_tells_which_agents_are_away_and_which_nobody_has_seen(running: RunningServer) -> None:
    async with driven_agent(running.address, "gone"):
        pass
    await running.until_away("gone")
    agents = ["--agent=here", "--agent=gone", "--agent=misspelt"]

    async with driven_agent(running.address, "here"):
        finished = await run_sender(running.address, *agents, "--type=PING", "--repeat=2")
        forms = (await run_sender(running.address, *agents, "--type=PING", "-o", "json")).document

    lines = [line.partition("(")[2] for line in finished.stdout.decode().splitlines()]
    assert lines[:2] == ["the agent is connected)"] * 2
    assert lines[2:4] == ["the agent is away; the command waits for it)"] * 2
    assert lines[4:] == ["the agent has never connected; the command waits for it)"] * 2
    assert finished.stderr == "queued 6 of 6 commands for 3 agents\nthe agent misspelt has never connected\n"
    assert [(form["agentConnected"], form["agentKnown"]) for form in forms] == [
        (True, True),
        (False, True),
        (False, False),
    ]


async def test_many_agents_that_nobody_has_seen_are_counted(server: str) -> None:
    agents = [f"--agent=a{number}" for number in range(7)]

    finished = await run_sender(server, *agents, "--type=PING")

    assert finished.stderr.endswith("the agents a0, a1, a2, a3, a4 and 2 more have never connected\n")


async def test_a_command_queued_before_says_where_its_agent_is(server: str, agent: DrivenAgent) -> None:
    await agent.take_no_more()
    # Not a PING: agents have room for control commands when they are full.
    arguments = ["--agent=a1", "--type=EXEC", "--idempotency-key=k"]
    await run_sender(server, *arguments)

    again = await run_sender(server, *arguments)

    assert again.stdout.decode().endswith("was queued before: EXEC for a1 (the agent is connected)\n")


async def test_one_of_many_refused_is_told_and_the_rest_is_queued(running: RunningServer) -> None:
    lines = b'{"agentId": "a1"}\n{"agentId": "a2", "offline": "fail"}\n'

    finished = await run_sender(running.address, "--input=-", "--type=PING", "-o", "json", stdin=lines)

    assert finished.code == 6
    assert [record.get("error", {}).get("reason") for record in finished.document] == [None, "AGENT_OFFLINE"]
    assert "error: PING for a2 was not queued: agent 'a2' has never connected, " in finished.stderr
    assert [command.agent_id for command in await queued(running)] == ["a1"]
