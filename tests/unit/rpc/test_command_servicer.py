"""What the servicer decides by itself: how much it translates at once, and where a page ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from distributor.dispatch.command_service import CommandService
from distributor.identity.policy_source import PolicySource
from distributor.model.agent import AgentInfo
from distributor.rpc import command_servicer, queue_request
from distributor.rpc.command_servicer import CommandServicer
from distributor.rpc.queue_request import CommandDefaults
from distributor.settings import ServerSettings
from distributor.v1 import command_service_pb2 as pb
from tests.support import running_server
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import MemoryClaimer, MemoryStore

CLIENTS_RECEIVE = 4 * 1024 * 1024
NO_CONTEXT = cast(Any, None)


class AgentReader(MemoryReader):
    """Knows agents with large labels, by id."""

    def __init__(self, ids: str) -> None:
        super().__init__()
        self.ids = ids

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        return [agent_id for agent_id in self.ids if agent_id > after][:limit]

    async def agents(self, agent_ids: Any) -> list[AgentInfo | None]:
        labels = {"note": "x" * 500_000}
        return [AgentInfo(agent_id, 1, True, 5, 0, 0, (), labels, "", 1, 1, 0) for agent_id in agent_ids]


def servicer(reader: MemoryReader, policy: PolicySource | None = None) -> CommandServicer:
    service = CommandService(MemoryStore(), reader, MemoryClaimer())
    return CommandServicer(service, cast(Any, None), cast(Any, None), CommandDefaults(ServerSettings(), policy=policy))


async def test_a_page_of_agents_ends_before_it_is_too_large_to_be_received() -> None:
    commands = servicer(AgentReader("abcdefghijklmnopqrst"))
    listed, token, pages = "", "", 0
    while True:
        page = await commands.ListAgents(pb.ListAgentsRequest(page_token=token), NO_CONTEXT)
        assert page.ByteSize() < CLIENTS_RECEIVE
        listed += "".join(agent.agent_id for agent in page.agents)
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert (listed, pages) == ("abcdefghijklmnopqrst", 3)


async def threads_of(
    requests: list[pb.QueueCommandRequest], monkeypatch: pytest.MonkeyPatch, policy: PolicySource | None = None
) -> list[bool]:
    """For each request, whether it was translated on the loop's thread."""
    here = threading.get_ident()
    on_loop: list[bool] = []

    def noted(*arguments: Any) -> Any:
        on_loop.append(threading.get_ident() == here)
        return translate(*arguments)

    translate = queue_request.new_command
    monkeypatch.setattr(command_servicer, "new_command", noted)
    response = await servicer(MemoryReader(), policy).QueueCommands(
        pb.QueueCommandsRequest(requests=requests), NO_CONTEXT
    )
    assert all(outcome.command_id for outcome in response.outcomes)
    return on_loop


async def test_large_params_are_looked_at_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    new = running_server.queue_request
    small, large = new(params={"a": "x"}), new(params={"a": "x" * 20_000})
    assert await threads_of([small, large, small], monkeypatch) == [True, False, True]


async def test_params_that_take_long_to_check_are_checked_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[types.PRINT]\nschema = { properties = { a = { items = { type = "number" } } } }\n')
    new = running_server.queue_request
    quick, slow = new(params={"a": [1]}), new(params={"a": [1] * 1_000})
    assert slow.command.params.ByteSize() < 16_384
    # The slow one is given up on the loop, and checked again.
    assert await threads_of([quick, slow, quick], monkeypatch, PolicySource(path)) == [True, True, False, True]


async def test_many_requests_let_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    going_on = asyncio.create_task(other())
    await threads_of([running_server.queue_request(params={"a": "x" * 200})] * 1_000, monkeypatch)
    going_on.cancel()
    assert turns > 20
