"""Secret params through a bridge: the agent gets them, no dashboard and no log line shows them."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import pytest

from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer

SECRET: Final = "hunter2-of-the-test"
FIELDS: Final[dict[str, Any]] = {
    "commandType": "PRINT",
    "params": {"user": "u", "password": SECRET},
    "secretParams": ["/password"],
    "offline": "queue",
}


async def test_a_secret_reaches_the_agent_and_no_dashboard(
    server: RunningServer, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    everything = {"commands": ["*"], "agents": ["*"]}
    with caplog.at_level(logging.DEBUG):
        async with server.agent() as agent, bridge.dashboard(subscribe=everything) as dashboard:
            command_id = await dashboard.request("agent123", **FIELDS)
            (assignment,) = await agent.assigned(1)
            await agent.start(assignment)
            await agent.finish(assignment)
            await dashboard.first("command:result", commandId=command_id)
            messages = json.dumps(dashboard.of("command:accepted", "command:status", "command:result"))
        document = (await bridge.get(f"/api/commands/{command_id}")).json()
        listed = (await bridge.get("/api/commands")).json()
    assert dict(assignment.command.params) == {"user": "u", "password": SECRET}
    assert document["command"]["params"] == {"user": "u", "password": "***"}
    assert document["command"]["secretParams"] == ["/password"]
    assert SECRET not in messages + json.dumps(listed) + caplog.text


@pytest.mark.parametrize("pointers", [["password"], [3], "/password", ["/a"] * 33])
async def test_invalid_pointers_are_refused(bridge: RunningBridge, pointers: Any) -> None:
    async with bridge.dashboard() as dashboard:
        fields = FIELDS | {"agentId": "agent123", "secretParams": pointers}
        error = await dashboard.refused("command:request", **fields)
    assert error["code"] == "INVALID_ARGUMENT"
    assert error["field"].startswith("secretParams")
