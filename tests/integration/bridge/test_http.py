from __future__ import annotations

from typing import Any

import pytest

from distributor.wire.documents import milliseconds_of
from tests.support.protocol_schema import check
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer

UNKNOWN_ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"
OURS = {"X-Distributor-Dev": "1"}


async def listed(bridge: RunningBridge, query: str) -> list[str]:
    answer = await bridge.get(f"/api/commands{query}")
    assert answer.status == 200, answer.body
    check(answer.json(), "apiCommands")
    return [command["commandId"] for command in answer.json()["commands"]]


async def test_commands_are_filtered_and_paged(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        done, failed = await server.queue(), await server.queue(command_type="EXEC")
        await agent.assigned(2)
        await agent.finish(await agent.next_assignment(done), exit_code=0)
        await agent.finish(await agent.next_assignment(failed), status=4, exit_code=3)
    waiting = await server.queue("other")
    assert await listed(bridge, "") == [waiting, failed, done]
    assert await listed(bridge, "?agent=agent123") == [failed, done]
    assert await listed(bridge, "?status=failed") == [failed]
    assert await listed(bridge, "?status=queued&status=completed") == [waiting, done]
    assert await listed(bridge, "?status=failed&status=timeout&status=queued") == [waiting, failed]
    assert await listed(bridge, "?status=timeout") == []
    assert await listed(bridge, "?type=EXEC") == [failed]
    command = (await bridge.get(f"/api/commands/{failed}")).json()["command"]
    assert command["exitCode"] == 3
    since = milliseconds_of(command["receipts"]["queueTime"]) + 1
    assert set(await listed(bridge, f"?since={since}")) <= {waiting}
    pages, token = [], ""
    while True:
        page = (await bridge.get(f"/api/commands?pageSize=2&pageToken={token}")).json()
        pages += [command["commandId"] for command in page["commands"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert pages == [waiting, failed, done]


async def test_one_command_has_its_params_and_its_result(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(params={"target": "x", "times": 2})
        (assignment,) = await agent.assigned()
        running = (await bridge.get(f"/api/commands/{command_id}")).json()
        await agent.finish(assignment, exit_code=0)
        ended = (await bridge.get(f"/api/commands/{command_id}")).json()
    for document in (running, ended):
        check(document, "apiCommand")
        command = document["command"]
        assert command["params"] == {"target": "x", "times": 2}
        assert command["timeLimitSeconds"] > 0
        assert command["queueTtlSeconds"] > 0
        assert (command["offline"], command["maxRuns"]) == ("queue", 1)
    assert running["result"] is None
    assert ended["result"]["exitCode"] == 0


async def test_agents(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent("b"), server.agent("a", labels={"zone": "x"}):
        document = (await bridge.get("/api/agents")).json()
    check(document, "apiAgents")
    assert [agent["agentId"] for agent in document["agents"]] == ["a", "b"]
    assert document["agents"][0]["labels"] == {"zone": "x"}


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/commands?status=done", 400, "status"),
        ("/api/commands?status=running", 400, "status"),
        ("/api/commands?agent=a%20b", 400, "agent"),
        ("/api/commands?type=1", 400, "type"),
        ("/api/commands?since=-1", 400, "since"),
        ("/api/commands?since=5&until=5", 400, "until"),
        ("/api/commands?pageSize=0", 400, "pageSize"),
        ("/api/commands?pageSize=201", 400, "pageSize"),
        ("/api/commands?pageToken=bogus", 400, "pageToken"),
        ("/api/commands?limit=5", 400, "limit"),
        ("/api/commands/nonsense", 400, "commandId"),
        (f"/api/commands/{UNKNOWN_ID}", 404, "commandId"),
        ("/api/nothing", 404, None),
    ],
)
async def test_what_is_wrong_is_said_by_field(bridge: RunningBridge, path: str, status: int, field: str | None) -> None:
    answer = await bridge.get(path)
    assert answer.status == status
    check(answer.json(), "apiError")
    assert answer.json()["error"].get("field") == field


async def test_every_call_needs_a_token_that_may_read(bridge: RunningBridge) -> None:
    for path in ("/api/commands", f"/api/commands/{UNKNOWN_ID}", "/api/agents", "/api/nothing"):
        nobody = await bridge.get(path, token=None)
        assert (nobody.status, nobody.headers["WWW-Authenticate"]) == (401, "Bearer")
        check(nobody.json(), "apiError")
        assert (await bridge.get(path, token="x.y.z")).status == 401
        assert (await bridge.get(path, token=bridge.token("delegate"))).status == 403


async def test_health_needs_no_token_and_metrics_one_that_sees_everything(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        await dashboard.settled()
        metrics = (await bridge.get("/metrics")).body.decode()
    assert "\ndistributor_bridge_dashboards 1.0\n" in metrics
    assert "\ndistributor_bridge_events_lag_entries 0.0\n" in metrics
    assert "\ndistributor_bridge_events_lag_seconds " in metrics
    assert (await bridge.get("/healthz", token=None)).status == 200
    ready = (await bridge.get("/readyz", token=None)).json()
    assert set(ready["checks"]) == {"valkey", "server"}


@pytest.mark.parametrize("path", ["/", "/index.html", "/api/agents", "/ws", "/nothing", "/metrics"])
async def test_every_answer_is_safe_in_a_browser(bridge: RunningBridge, path: str) -> None:
    headers = (await bridge.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    if path.startswith("/api"):
        assert headers["Cache-Control"] == "no-store"


async def test_the_page_is_served(bridge: RunningBridge) -> None:
    page = await bridge.get("/", token=None)
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert (await bridge.get("/../app.py", token=None)).status == 404
    assert (await bridge.get("/%2e%2e/app.py", token=None)).status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OURS, 200),
        (OURS | {"Sec-Fetch-Site": "same-origin"}, 200),
        (OURS | {"Sec-Fetch-Site": "cross-site"}, 403),
        (OURS | {"Sec-Fetch-Site": "same-site"}, 403),
        (OURS | {"Host": "rebound.example.org"}, 403),
        (OURS | {"Host": "["}, 403),
        ({}, 403),
    ],
)
async def test_in_dev_the_page_gets_a_token_and_others_do_not(
    server: RunningServer, headers: dict[str, Any], status: int
) -> None:
    async with running_bridge(server, dev=True) as bridge:
        answer = await bridge.get("/dev/token", token=None, **headers)
        assert answer.status == status
        if status == 200:
            assert answer.headers["Cache-Control"] == "no-store"
            async with bridge.stranger() as dashboard:
                connected = await dashboard.connect(answer.json()["token"])
            assert connected["expireTime"] == answer.json()["expireTime"]


async def test_elsewhere_there_is_no_such_token(bridge: RunningBridge) -> None:
    assert (await bridge.get("/dev/token", token=None, **OURS)).status == 404


async def test_output_is_downloaded_byte_for_byte(server: RunningServer, bridge: RunningBridge) -> None:
    printed = bytes(range(256)) * 1_000
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        for offset in range(0, len(printed), 10_000):
            await agent.print(assignment, printed[offset : offset + 10_000], offset)
        await agent.finish(assignment)
    answer = await bridge.get(f"/api/commands/{command_id}/output")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-output-offset"] == "0"
    assert answer.body == printed
    assert (await bridge.get(f"/api/commands/{command_id}/output?stream=stderr")).body == b""
    assert (await bridge.get(f"/api/commands/{command_id}/output", token=None)).status == 401


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        (f"/api/commands/{UNKNOWN_ID}/output", 404, "commandId"),
        ("/api/commands/nonsense/output", 400, "commandId"),
    ],
)
async def test_output_that_there_is_none_of(bridge: RunningBridge, path: str, status: int, field: str) -> None:
    answer = await bridge.get(path)
    assert answer.status == status
    assert answer.json()["error"]["field"] == field


async def test_a_stream_that_does_not_exist_is_refused(server: RunningServer, bridge: RunningBridge) -> None:
    answer = await bridge.get(f"/api/commands/{await server.queue()}/output?stream=stdin")
    assert answer.status == 400
    assert answer.json()["error"]["field"] == "stream"
