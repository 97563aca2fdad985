"""Commands that were delayed on their way."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.conformance.scenario import scenario
from distributor.conformance.trial import COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

INTERVAL_SECONDS: Final = 1.0
START_WITHIN_SECONDS: Final = 2.0
TOO_LATE_SECONDS: Final = START_WITHIN_SECONDS + 0.1
"""The clock of the agent may be coarse."""


@scenario("Freshness")
async def stale_heartbeat(trial: Trial) -> None:
    """A command is STALE once the heartbeat that it names is start_within old; after a recent one it runs."""
    session = await trial.session(heartbeat_interval=INTERVAL_SECONDS, start_within=START_WITHIN_SECONDS)
    await asyncio.sleep(TOO_LATE_SECONDS)
    await trial.until(lambda: session.answered_heartbeat >= 2, "heartbeats")
    stale = trial.command()
    await session.command(stale, after_heartbeat=0)
    trial.require((await trial.refused(stale)).code == gateway.REFUSAL_CODE_STALE)
    trial.require((await trial.run_when_fresh(trial.command())).status == COMPLETED)
    trial.require(not trial.parts("started", stale))


@scenario("Freshness")
async def late_welcome(trial: Trial) -> None:
    """After a Welcome that comes start_within after the Hello, a command that names only the Hello is STALE."""
    session = await trial.attached()
    await asyncio.sleep(TOO_LATE_SECONDS)
    await trial.welcome(heartbeat_interval=INTERVAL_SECONDS, start_within=START_WITHIN_SECONDS)
    stale = trial.command()
    await session.command(stale, after_heartbeat=0)
    trial.require((await trial.refused(stale)).code == gateway.REFUSAL_CODE_STALE)
    await trial.until(lambda: session.answered_heartbeat, "a heartbeat")
    trial.require((await trial.run_when_fresh(trial.again(stale))).status == COMPLETED)


@scenario("Freshness")
async def late_welcome_with_keep(trial: Trial) -> None:
    """What a late Welcome keeps goes on: freshness is for new commands. A result is sent, a running command runs on."""
    session = await trial.session()
    session.ack_results = False
    (running,) = trial.sleepers(1)
    done = trial.command(echo="kept")
    await trial.give(running, done)
    await trial.started(running)
    await trial.result(done)
    session = await trial.dropped()
    await asyncio.sleep(TOO_LATE_SECONDS)
    await trial.welcome(heartbeat_interval=INTERVAL_SECONDS, start_within=START_WITHIN_SECONDS)
    trial.require((await trial.result(done)).data.string_value == "kept")
    stale = trial.command()
    await session.command(stale, after_heartbeat=0)
    trial.require((await trial.refused(stale)).code == gateway.REFUSAL_CODE_STALE)
    trial.require(not trial.parts("refused", running))
    await trial.until(lambda: session.answered_heartbeat, "a heartbeat")
    await trial.cancelled(running)
    trial.started_once(running)


@scenario("Heartbeats and credit")
async def heartbeat_after_welcome(trial: Trial) -> None:
    """A heartbeat comes right after the Welcome, and with each STALE refusal, not only when the next is due."""
    session = await trial.session(heartbeat_interval=60.0)
    await trial.until(lambda: session.answered_heartbeat == 1, "a heartbeat after the Welcome")
    stale = trial.command()
    await session.command(stale, after_heartbeat=1_000_000)
    trial.require((await trial.refused(stale)).code == gateway.REFUSAL_CODE_STALE)
    await trial.until(lambda: session.answered_heartbeat == 2, "a heartbeat with the refusal")


@scenario("Freshness")
async def unknown_heartbeat(trial: Trial) -> None:
    """A command that names a heartbeat that was never sent is STALE."""
    session = await trial.session()
    command = trial.command()
    await session.command(command, after_heartbeat=1_000_000)
    trial.require((await trial.refused(command)).code == gateway.REFUSAL_CODE_STALE)
