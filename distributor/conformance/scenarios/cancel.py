"""Cancels."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.conformance.messages import verdict
from distributor.conformance.scenario import scenario
from distributor.conformance.trial import CANCELLED, COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

STOPPING: Final = gateway.CANCEL_FINDING_STOPPING
UNKNOWN: Final = gateway.CANCEL_FINDING_UNKNOWN
STUBBORN_SECONDS: Final = 4.0
"""Longer than an agent waits before it connects again."""
EARLY_SECONDS: Final = 0.1
"""How much earlier than its timer the clock of the agent may be."""


@scenario("Cancel")
async def cancel_while_running(trial: Trial) -> None:
    """A cancel of a running command is answered with STOPPING; its result is CANCELLED."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.cancel(command)
    trial.require((await trial.part("cancel_reports", command)).finding == STOPPING)
    trial.require((await trial.result(command)).status == CANCELLED)


@scenario("Cancel")
async def cancel_again_and_again(trial: Trial) -> None:
    """Each repeated cancel is answered; there is one result."""
    session = await trial.session()
    session.ack_results = False
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    for _ in range(3):
        await trial.cancel(command)
    await trial.until(lambda: len(trial.parts("cancel_reports", command)) == 3, "three reports")
    await trial.result(command)
    await trial.quiet()
    trial.require({report.finding for report in trial.parts("cancel_reports", command)} == {STOPPING})
    trial.require(len(trial.parts("results", command)) == 1)


@scenario("Cancel")
async def cancel_unknown_command(trial: Trial) -> None:
    """A cancel of a command that the agent does not have is answered with UNKNOWN under the lease of the cancel."""
    await trial.session()
    command = trial.command()
    await trial.cancel(command)
    trial.require((await trial.part("cancel_reports", command)).finding == UNKNOWN)


@scenario("Cancel")
async def cancel_of_another_lease(trial: Trial) -> None:
    """A cancel under another lease is answered with UNKNOWN under that lease; the command goes on."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    another = trial.again(command)
    await trial.cancel(another)
    trial.require((await trial.part("cancel_reports", another)).finding == UNKNOWN)
    await trial.quiet()
    await trial.cancelled(command)


@scenario("Cancel")
async def cancel_with_result_in_transit(trial: Trial) -> None:
    """A cancel of a command whose result is not acknowledged is answered with STOPPING; the result stands."""
    session = await trial.session()
    session.ack_results = False
    command = trial.command()
    await trial.run(command)
    await trial.cancel(command)
    trial.require((await trial.part("cancel_reports", command)).finding == STOPPING)
    await trial.quiet()
    trial.require(all(result.status == COMPLETED for result in trial.parts("results", command)))


@scenario("Cancel")
async def cancel_while_output_waits(trial: Trial) -> None:
    """A command that waits for room for its output is cancelled like any other."""
    session = await trial.session(max_output=1_000)
    session.ack_output = False
    command = trial.command(output=1_000_000)
    await trial.give(command)
    await trial.until(lambda: sum(len(part.data) for part in trial.parts("output", command)) == 1_000, "a full window")
    await trial.cancel(command)
    trial.require((await trial.part("cancel_reports", command)).finding == STOPPING)
    trial.require((await trial.result(command)).status == CANCELLED)


@scenario("Cancel")
async def cancel_after_verdict_stop(trial: Trial) -> None:
    """A cancel under any lease, after the verdict STOP, gets STOPPING while the command runs, UNKNOWN once it ended."""
    await trial.session()
    command = trial.command(output=1, seconds=STUBBORN_SECONDS, stubborn=True)
    clock = asyncio.get_running_loop().time
    # It ends later than this.
    end = clock() + STUBBORN_SECONDS - EARLY_SECONDS
    await trial.give(command)
    # Before, it may not be stubborn yet.
    await trial.part("output", command)
    await trial.dropped()
    await trial.welcome(verdicts=(verdict(command.command.command_id, gateway.VERDICT_STOP),))
    another = trial.again(command)
    await trial.cancel(another)
    await trial.settled()
    first = [report.finding for report in trial.parts("cancel_reports", another)]
    trial.require(first == [STOPPING] or clock() >= end, expected="STOPPING while it runs")
    await trial.until(
        lambda: any(report.finding == UNKNOWN for report in trial.parts("cancel_reports", another)),
        "UNKNOWN once the command has ended",
    )
    trial.require(clock() >= end, f"UNKNOWN {end - clock():.1f} s before the command ended")
