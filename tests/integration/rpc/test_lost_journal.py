"""An agent that comes back with another journal is noticed."""

from __future__ import annotations

import logging

import pytest

from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import running_server

NOTE = "an agent came back without its journal"


@pytest.mark.parametrize(
    ("before", "after", "noticed"), [("j1", "j2", True), ("j1", "", True), ("j1", "j1", False), ("", "j1", False)]
)
async def test_a_journal_that_was_replaced_is_logged_and_shown(
    valkey_url: str, caplog: pytest.LogCaptureFixture, before: str, after: str, noticed: bool
) -> None:
    async with running_server(valkey_url) as server:
        async with server.agent(journal_id=before) as first:
            await first.heartbeat()
            await first.leave()
        with caplog.at_level(logging.WARNING, logger="distributor"):
            async with server.agent(journal_id=after, instance_id="instance-2") as second:
                await second.heartbeat()
                info = await server.agent_info()
        assert [problem.code for problem in info.problems] == (["journal_replaced"] if noticed else [])
        assert (info.status, info.journal_id) == (pb.AGENT_STATUS_ONLINE, after)
        assert any(NOTE in line.getMessage() for line in caplog.records) is noticed
