"""How an agent introduces itself."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.conformance.scenario import LAUNCH, scenario
from distributor.conformance.trial import Trial
from distributor.v1 import agent_gateway_pb2 as gateway

LATE_WELCOME_SECONDS: Final = 0.7


@scenario("Hello")
async def valid_hello(trial: Trial) -> None:
    """The first message is a valid Hello that offers PING and CONFORMANCE."""
    # Each Hello of each scenario is checked so.
    await trial.session()
    await trial.settled()


@scenario("Order of a session")
async def nothing_before_welcome(trial: Trial) -> None:
    """The agent sends nothing between Hello and Welcome, though it has a result and output to send."""
    session = await trial.session()
    session.ack_results = session.ack_output = False
    await trial.run(trial.command(output=10))
    session = await trial.dropped()
    await asyncio.sleep(LATE_WELCOME_SECONDS)
    trial.require(not session.seen)
    await trial.welcome()
    await trial.settled()


@scenario("Hello")
async def same_instance_on_reconnect(trial: Trial) -> None:
    """instance_id and journal_id are the same on each stream of one process."""
    first = (await trial.session()).hello
    await trial.settled()
    again = (await trial.dropped()).hello
    trial.require(again.instance_id == first.instance_id, f"{first.instance_id}, then {again.instance_id}")
    trial.require(again.journal_id == first.journal_id, f"{first.journal_id}, then {again.journal_id}")


@scenario("Hello", LAUNCH)
async def new_instance_after_restart(trial: Trial) -> None:
    """instance_id is another after a restart of the process."""
    first = (await trial.session()).hello.instance_id
    await trial.restart()
    again = (await trial.session()).hello.instance_id
    trial.require(again != first, f"{first} both times")


@scenario("Welcome")
async def unknown_verdict(trial: Trial) -> None:
    """A verdict that the agent does not know counts as KEEP."""
    await trial.session()
    command = trial.command(output=100, seconds=600)
    await trial.give(command)
    await trial.started(command)
    await trial.dropped()
    unknown = gateway.HeldCommandVerdict(command_id=command.command.command_id, output_offset=0)
    unknown.MergeFromString(b"\x10\x63")  # verdict = 99
    await trial.welcome(verdicts=(unknown,))
    await trial.cancelled(command)
    trial.started_once(command)
