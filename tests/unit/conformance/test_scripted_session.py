"""Races between the agent and the script, each decided for the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from distributor.conformance.scripted_session import ScriptedSession
from distributor.conformance.trial import Trial
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.memory_gateway import MemoryGateway, MemoryStream
from tests.support.virtual_time import run_in_virtual_time

HELLO = pb.ConnectRequest(hello=pb.Hello(agent_id="a", instance_id="i", capacity=1))


async def attached() -> tuple[MemoryStream, ScriptedSession, Trial]:
    gateway = MemoryGateway(patience=1.0)
    await gateway.start()
    trial = Trial(gateway, None, Path())
    stream = gateway.connect()
    assert stream
    stream.send(HELLO)
    return stream, await trial.session(), trial


async def everything_read() -> None:
    """Nothing else waits longer: in virtual time, this is the last to go on."""
    await asyncio.sleep(0.1)


def test_what_is_sent_on_a_stream_that_the_agent_has_ended_is_lost() -> None:
    async def main() -> None:
        stream, session, _ = await attached()
        stream.cancel()
        await everything_read()
        await session.send(pb.ConnectResponse())
        with pytest.raises(Unmet, match="then the end of the stream"):
            await session.until(lambda seen: False)

    run_in_virtual_time(main())


def test_a_heartbeat_that_came_before_the_script_looks_counts() -> None:
    async def main() -> None:
        stream, _, trial = await attached()
        stream.send(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1)))
        await everything_read()
        assert [beat.sequence for beat in await trial.heartbeats()] == [1]

    run_in_virtual_time(main())
