"""Looking at commands and agents with command-sender."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_command_service import FAILED, FakeCommandService
from tests.support.launched_sender import run_sender

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"


async def queued(server: str, command_type: str) -> str:
    finished = await run_sender(server, "--agent=a1", f"--type={command_type}", "-o", "json")
    return str(finished.document["commandId"])


@pytest.mark.parametrize("command", [["get"], ["result"], ["cancel"], ["watch"]])
async def test_an_unknown_command_is_not_found(server: str, command: list[str]) -> None:
    finished = await run_sender(server, *command, UNKNOWN)

    assert (finished.code, finished.stdout) == (4, b"")
    assert finished.stderr == f"error: no command {UNKNOWN}\n"


async def test_what_is_found_is_shown_beside_what_is_not(service: FakeCommandService, server: str) -> None:
    command_id = await queued(server, "PING")

    finished = await run_sender(server, "get", UNKNOWN, command_id, "-o", "jsonl")

    assert finished.code == 4
    assert [record["commandId"] for record in finished.records] == [command_id]


async def test_get_shows_the_time_between_the_stages(service: FakeCommandService, server: str) -> None:
    service.end_each(FAILED, reason="exit_nonzero")
    command_id = await queued(server, "EXEC")

    text = (await run_sender(server, "get", command_id)).stdout.decode()

    assert "reason        exit_nonzero: exit nonzero" in text
    assert "  queued        2027-01-15T08:00:01.000Z\n  assigned      2027-01-15T08:00:02.000Z  +1.0 s\n" in text
    assert "  finished      2027-01-15T08:00:06.000Z  +1.0 s\n" in text


async def test_result(service: FakeCommandService, server: str) -> None:
    command_id = await queued(server, "EXEC")
    early = await run_sender(server, "result", command_id)
    assert (early.code, early.stderr) == (6, "error: the command has not ended\n")

    service.finish(command_id, exit_code=0, data={"grüße": [1, None]})

    form = (await run_sender(server, "result", command_id, "-o", "json")).document
    assert (form["status"], form["exitCode"], form["data"]) == ("completed", 0, {"grüße": [1, None]})
    assert 'data          {"grüße": [1, null]}' in (await run_sender(server, "result", command_id)).stdout.decode()


async def test_cancel(service: FakeCommandService, server: str) -> None:
    command_id = await queued(server, "EXEC")

    finished = await run_sender(server, "cancel", command_id, "--reason=mistake")

    assert finished.stdout.decode() == f"{command_id} is cancelled\n"
    assert service.requests[-1].reason == "mistake"


async def test_what_the_server_did_not_tell_is_null(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1")
    command_id = await queued(server, "EXEC")
    service.start(command_id)
    service.write_output(command_id, b"6bytes")

    def told(form: dict[str, Any]) -> tuple[object, ...]:
        return form["commandId"], form["agentId"], form["type"], form["agentKnown"], form["outputBytes"]

    (listed,) = (await run_sender(server, "list", "-o", "jsonl")).records
    got = (await run_sender(server, "get", command_id, "-o", "json")).document
    cancelled = (await run_sender(server, "cancel", command_id, "-o", "json")).document
    service.finish(command_id)
    state, _, result = (await run_sender(server, "watch", command_id, "-o", "jsonl")).records

    assert told(listed) == told(cancelled) == told(state["state"]) == (command_id, "a1", "EXEC", None, None)
    assert told(got) == (command_id, "a1", "EXEC", None, 6)
    assert result["result"]["outputBytes"] == 6


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


async def test_a_list_says_what_each_command_does(service: FakeCommandService, server: str) -> None:
    await run_sender(server, "--agent=a1", "--type=PING")
    await run_sender(server, "--agent=a1", "--type=PING", "--params=zone=b", "--params=count=2")

    table = (await run_sender(server, "list")).stdout.decode().splitlines()
    document = (await run_sender(server, "list", "-o", "json")).document

    assert table[0].endswith("REASON  PARAMS")
    assert [line.endswith("count, zone") for line in table[1:]] == [True, False]
    assert [row["paramsSummary"] for row in document["commands"]] == ["count, zone", ""]


async def test_agents(service: FakeCommandService, server: str) -> None:
    service.connect_agent("a1", types=["EXEC"], labels={"zone": "eu"}, agent_version="evil \x1b[2J")
    service.connect_agent("a2")

    table = await run_sender(server, "agents")
    assert [line.split()[0] for line in table.stdout.decode().splitlines()] == ["AGENT", "a1", "a2"]
    assert b"\x1b" not in table.stdout, "what agents say does not drive the terminal"
    assert (await run_sender(server, "agents", "a1", "-o", "json")).document["labels"] == {"zone": "eu"}
    unknown = await run_sender(server, "agents", "nobody")
    assert (unknown.code, unknown.stderr) == (4, "error: no agent nobody\n")
