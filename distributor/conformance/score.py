"""Plays one scenario and scores how the agent did."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.scenario import Scenario
from distributor.conformance.trial import Trial
from distributor.conformance.unmet import FAULT_OF_THE_KIT, Unmet
from distributor.errors import ConfigurationError


class Verdict(StrEnum):
    """How an agent did in a scenario."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Score(NamedTuple):
    """How an agent did in a scenario, what was expected, and what came."""

    scenario: Scenario
    verdict: Verdict
    expected: str
    came: str
    seconds: float


async def score(one: Scenario, staged: AbstractAsyncContextManager[Trial], limit: float) -> Score:
    """Play a scenario on a stage of its own, for at most `limit` seconds.

    Raises nothing that an agent can cause.
    """
    began = asyncio.get_running_loop().time()
    verdict, expected, came = await _played(one, staged, limit)
    return Score(one, verdict, expected or one.expected, came, asyncio.get_running_loop().time() - began)


async def _played(one: Scenario, staged: AbstractAsyncContextManager[Trial], limit: float) -> tuple[Verdict, str, str]:
    try:
        async with staged as trial, asyncio.timeout(limit):
            await one.play(trial)
            trial.check()
    except Skipped as reason:
        return Verdict.SKIPPED, "", str(reason)
    except Unmet as unmet:
        return Verdict.FAILED, unmet.expected, unmet.came
    except TimeoutError:
        return Verdict.FAILED, "", f"no end of the scenario within {limit:g} s"
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - what an agent sends must not end the run of all scenarios
        return Verdict.FAILED, "", f"{FAULT_OF_THE_KIT}: {error!r}"
    return Verdict.PASSED, "", "as expected"
