from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from distributor.bridge import messages
from distributor.bridge.store_view import MAX_SNAPSHOT_AGENT_BYTES, MAX_SNAPSHOT_AGENTS, StoreView
from distributor.identity.caller import ANYONE
from distributor.model.agent import AgentInfo
from distributor.wire.documents import agent_document


class Reader:
    """A CommandReader that knows agents, all with the same labels."""

    def __init__(self, count: int, labels: dict[str, str]) -> None:
        self._ids = [f"agent-{number:04}" for number in range(count)]
        self._labels = labels

    async def agent_ids(self, after: str, count: int) -> list[str]:
        return [agent_id for agent_id in self._ids if agent_id > after][:count]

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        return [agent(agent_id, self._labels) for agent_id in agent_ids]


def agent(agent_id: str, labels: dict[str, str]) -> AgentInfo:
    return AgentInfo(agent_id, 1, True, 4, 0, 0, ("PING",), labels, "1", 0, 0, 0)


@pytest.mark.parametrize("character", ["x", "\u65e5", "\x01"])
async def test_the_agents_of_a_snapshot_fit_into_one_message_whatever_their_labels(character: str) -> None:
    labels = {f"label-{number:02}": character * 250 for number in range(64)}
    shown = await StoreView(cast(Any, Reader(40, labels))).snapshot_agents(ANYONE)
    assert 0 < len(shown) < 40
    assert (
        len(messages.resync("slow", "0-0", [agent_document(agent) for agent in shown], []).encode())
        < MAX_SNAPSHOT_AGENT_BYTES + 1_024
    )


async def test_agents_beyond_a_number_are_left_out() -> None:
    shown = await StoreView(cast(Any, Reader(MAX_SNAPSHOT_AGENTS + 1, {}))).snapshot_agents(ANYONE)
    assert len(shown) == MAX_SNAPSHOT_AGENTS
