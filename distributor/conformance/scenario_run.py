"""Plays scenarios against an agent and scores them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distributor.conformance.agent_sessions import MAX_BACKOFF_SECONDS
from distributor.conformance.launched_agent import LaunchedAgent, found
from distributor.conformance.scenario import Scenario
from distributor.conformance.score import Score, Verdict, score
from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.conformance.served_tls import ServedTls
from distributor.conformance.trial import Trial
from distributor.conformance.unmet import Unmet
from distributor.errors import ConfigurationError

SCENARIO_PATIENCES: Final = 6
"""Limit of a scenario, as a multiple of the patience of its single waits."""

END_SECONDS: Final = 0.5
"""How long an agent whose stream has ended may take to end, too."""


@dataclass(frozen=True, slots=True)
class KitOptions:
    """How to play. Without a `program`, the tester starts one agent, which plays all scenarios in turn."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 gives each scenario a port of its own."""
    program: Sequence[str] = ()
    """Command line of the agent, which is then started for each scenario."""
    patience: float = 10.0
    """Limit of each wait for the agent, in seconds."""
    jobs: int = 4
    """Number of scenarios played at once; 1 if they share a port."""
    tls: ServedTls | None = None
    """None plays in plain text, without asking for a token."""


async def run_scenarios(
    scenarios: Sequence[Scenario], options: KitOptions, on_score: Callable[[Score], None]
) -> list[Score]:
    """Play the scenarios and score each; `on_score` is called as they end. Returns the scores in order of scenarios.

    Raises ConfigurationError if the agent's program does not exist, or none that the tester starts connects in time.
    """
    if not options.program:
        async with _gateway(options) as served:
            await _some_agent(served)
            return [await _scored(one, options, served, on_score) for one in scenarios]
    found(options.program[0])
    jobs = asyncio.Semaphore(1 if options.port else options.jobs)

    async def play(one: Scenario) -> Score:
        async with jobs, _gateway(options) as served:
            return await _scored(one, options, served, on_score)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(play(one)) for one in scenarios]
    return [task.result() for task in tasks]


async def _some_agent(served: ScriptedGateway) -> None:
    """Wait for an agent that the tester starts, as each scenario would wait in vain."""
    limit = served.patience + MAX_BACKOFF_SECONDS
    try:
        async with asyncio.timeout(limit):
            await served.connected.wait()
    except TimeoutError as error:
        raise ConfigurationError(f"no agent has connected to {served.address} within {limit:g} s") from error


async def _scored(
    one: Scenario, options: KitOptions, served: ScriptedGateway, on_score: Callable[[Score], None]
) -> Score:
    if one.needs and not options.program:
        scored = Score(one, Verdict.SKIPPED, one.expected, one.needs, 0.0)
    else:
        # An agent that the tester starts may still wait after an earlier scenario.
        limit = SCENARIO_PATIENCES * options.patience + MAX_BACKOFF_SECONDS
        scored = await score(one, _trial(options, served), limit)
    on_score(scored)
    return scored


@asynccontextmanager
async def _gateway(options: KitOptions) -> AsyncIterator[ScriptedGateway]:
    served = ScriptedGateway(options.port, options.host, options.patience, options.tls)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


@asynccontextmanager
async def _trial(options: KitOptions, served: ScriptedGateway) -> AsyncIterator[Trial]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        if not options.program:
            trial = Trial(served, None, folder)
            try:
                yield trial
            finally:
                await trial.close()
            return
        agent = LaunchedAgent(options.program, served.address, folder, options.tls.files if options.tls else {})
        agent.start()
        try:
            yield Trial(served, agent, folder)
        except Unmet as unmet:
            raise Unmet(f"{unmet.came}{await _obituary(agent)}", unmet.expected) from unmet
        finally:
            await agent.kill()


async def _obituary(agent: LaunchedAgent) -> str:
    """What to add to what came, if the agent has ended."""
    try:
        async with asyncio.timeout(END_SECONDS):
            return f"; the agent ended with {await agent.ended()}: {agent.last_line or 'it printed nothing'}"
    except TimeoutError:
        return ""
