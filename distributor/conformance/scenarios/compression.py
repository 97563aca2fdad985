"""Compressed messages."""

from __future__ import annotations

import gzip
from typing import Final

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.scenario import scenario
from distributor.conformance.trial import COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

LARGE_BYTES: Final = 100_000


@scenario("Compression")
async def gzip_not_offered(trial: Trial) -> None:
    """A server that does not accept gzip gets plain messages."""
    session = await trial.session(accepts_gzip=False)
    await trial.run(trial.command(output=LARGE_BYTES, echo="a" * LARGE_BYTES))
    trial.require(not any(message.gzip for message in session.as_sent), "a compressed message")


@scenario("Compression")
async def gzip_offered(trial: Trial) -> None:
    """For a server that accepts gzip, a message that is compressed has its field gzip only; nothing is lost."""
    session = await trial.session(accepts_gzip=True)
    command = trial.command(output=LARGE_BYTES, echo="a" * LARGE_BYTES)
    result = await trial.run(command)
    trial.require(result.data.string_value == "a" * LARGE_BYTES, "other data")
    trial.require(len(session.output(command.command.command_id)) == LARGE_BYTES, "other output")
    for message in session.as_sent:
        trial.require(not message.gzip or len(message.ListFields()) == 1, "a gzip field beside others")


@scenario("Compression")
async def gzip_commands(trial: Trial) -> None:
    """An agent that accepts gzip runs the commands of a compressed message."""
    session = await trial.session()
    if not session.hello.accepts_gzip:
        raise Skipped("the agent does not accept gzip")
    command = trial.command(echo="a" * 2_000)
    message = gateway.ConnectResponse(commands=gateway.Commands(assignments=[command]))
    await session.send(gateway.ConnectResponse(gzip=gzip.compress(message.SerializeToString())))
    trial.require((await trial.result(command)).status == COMPLETED)
