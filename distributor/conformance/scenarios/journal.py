"""An agent that is killed and started again, with its journal."""

from __future__ import annotations

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.scenario import LAUNCH, scenario
from distributor.conformance.trial import COMPLETED, FAILED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway


async def journalled(trial: Trial) -> None:
    """Open the first session. Raises Skipped if the agent keeps no journal."""
    if not (await trial.session()).hello.journal_id:
        raise Skipped("no journal")


@scenario("Journal", LAUNCH)
async def journal_survives(trial: Trial) -> None:
    """journal_id is the same after kill -9 and a restart."""
    await journalled(trial)
    first = trial.current.hello.journal_id
    await trial.restart()
    again = (await trial.session()).hello.journal_id
    trial.require(again == first, f"{first}, then {again}")


@scenario("Journal", LAUNCH)
async def journal_lost(trial: Trial) -> None:
    """journal_id is another once the journal is lost."""
    await journalled(trial)
    first = trial.current.hello.journal_id
    await trial.restart(with_journal=False)
    again = (await trial.session()).hello.journal_id
    trial.require(again and again != first, f"{first}, then {again}")


@scenario("Journal", LAUNCH)
async def killed_while_running(trial: Trial) -> None:
    """A command that ran when the agent was killed is not started again; its result is FAILED, outcome_unknown."""
    await journalled(trial)
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.until(lambda: trial.starts(command) == 1)
    await trial.restart()
    await trial.session()
    trial.kept(command)
    result = await trial.result(command)
    trial.require((result.status, result.reason.code) == (FAILED, "outcome_unknown"))
    again = trial.again(command)
    await trial.give(again)
    await trial.until(lambda: trial.parts("refused", again) or trial.parts("results", again))
    await trial.quiet()
    trial.started_once(command)


@scenario("Journal", LAUNCH)
async def killed_with_result(trial: Trial) -> None:
    """A result that was not acknowledged when the agent was killed is sent after the restart."""
    await journalled(trial)
    trial.current.ack_results = False
    command = trial.command(echo="kept")
    await trial.run(command)
    await trial.restart()
    await trial.session()
    trial.kept(command)
    result = await trial.result(command)
    trial.require((result.status, result.data.string_value) == (COMPLETED, "kept"))
    trial.started_once(command)


@scenario("Journal", LAUNCH)
async def killed_when_done(trial: Trial) -> None:
    """A command that was done when the agent was killed is not started again."""
    await journalled(trial)
    command = trial.command()
    await trial.run(command)
    await trial.settled()
    await trial.restart()
    await trial.session()
    again = trial.again(command)
    await trial.give(again)
    await trial.until(lambda: trial.parts("refused", again) or trial.parts("results", again), "DUPLICATE or the result")
    for refused in trial.parts("refused", again):
        trial.require(refused.code == gateway.REFUSAL_CODE_DUPLICATE)
    await trial.quiet()
    trial.started_once(command)
