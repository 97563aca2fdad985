"""The campaign against faults that break a promise on purpose, or that do nothing: it notices each."""

from __future__ import annotations

import asyncio
import random
import signal
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Final

from distributor.store import keys
from tests.faults.campaign.checker import Broken
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.faults.agents import seen_dead, started_again
from tests.faults.campaign.faults.crowds import all_run
from tests.faults.campaign.faults.store import ValkeyPaused
from tests.faults.campaign.history import Entry, Kind, about
from tests.faults.campaign.ledger import Mark, Work
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.nemesis import Outcome, run_fault
from tests.faults.campaign.valkey_server import ValkeyProgram
from tests.faults.campaign.world import World, world
from tests.support.waiting import until

SEED: Final = 1


class CompletedCommandForgotten(Fault):
    """A command completes, and is read; afterwards Valkey loses it, as it would without its last writes."""

    name = "completed command forgotten"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        self.token = load.add(world.agents[0].agent_id, Work())
        await load.ended_of([self.token])
        (command_id,) = (
            entry.details["command_id"]
            for entry in world.history.entries
            if acknowledged(entry) and entry.token == self.token
        )
        names = (keys.STATUS, keys.RESULT, keys.COMMAND)
        async with world.valkey.client() as valkey:
            return f"{await valkey.delete(*(name.format(command_id=command_id) for name in names))} keys deleted"


class DeafValkey(ValkeyProgram):
    """Takes no signals."""

    def send(self, number: signal.Signals) -> None:
        pass


class CalmPause(ValkeyPaused):
    """Is said to pause Valkey, and does not."""

    name = "calm pause"
    mix = Mix(per_second=2.0)

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        valkey, world.valkey = world.valkey, DeafValkey(world.folder, world.valkey.port)
        try:
            return await super().inject(world, load, draw)
        finally:
            world.valkey = valkey


class QuietTraceback(Fault):
    """A server logs an exception that harms nobody."""

    name = "quiet traceback"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        with world.servers[0].program.log.open("a") as log:
            log.write("Traceback (most recent call last):\nKeyError: 1\n")
        return "logged"


class RunTwice(Fault):
    """A command fails once and is run again; then its program is run once more, behind the back of everything."""

    name = "run twice"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        work = Work(failures=1)
        self.permitted, self.repeated = (load.add(agent.agent_id, work) for agent in world.agents[:2])
        await load.ended_of([self.permitted, self.repeated])
        program = await asyncio.create_subprocess_exec(*work.argv(world.ledger.path, self.repeated), stdout=DEVNULL)
        await program.wait()
        starts = [line.token for line in world.ledger.lines() if line.mark is Mark.START]
        return f"{starts.count(self.permitted)} and {starts.count(self.repeated)} starts"


class KilledWithCommandsQueued(Fault):
    """An agent dies, and commands queued for it have not reached it."""

    name = "killed with commands queued"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        agent = world.agents[0]
        agent.supervised.hold_back()
        running = load.add(agent.agent_id, Work(ticks=50))
        await until(lambda: any(line.token == running for line in world.ledger.lines()))
        waiting = load.add(agent.agent_id, Work())
        await until(lambda: any(acknowledged(entry) for entry in about(world.history.entries, waiting)))
        await agent.program.kill()
        await seen_dead(agent, load)
        agent.supervised.let_start()
        await started_again(agent)
        (looked,) = (one for one in about(world.history.entries, waiting) if one.details.get("by") == "look")
        return f"{looked.details['status']}, attempt {looked.details['attempt']}"


def acknowledged(entry: Entry) -> bool:
    return entry.kind is Kind.ACKNOWLEDGED


class CrowdRefused(Fault):
    """The agents of a crowd have no handler for its commands."""

    name = "crowd refused"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        await all_run(world, [agent.agent_id for agent in world.agents])
        return "all asked"


class SlowReturn(Fault):
    """An agent stays away for a while after the fault is said to be healed."""

    name = "slow return"
    mix = Mix(per_second=2.0)
    exposes = False

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        supervised = world.agents[0].supervised
        supervised.hold_back()
        await supervised.program.kill()
        asyncio.get_running_loop().call_later(1.5, supervised.let_start)
        return "held back"


def broken(outcome: Outcome) -> set[tuple[Broken, str]]:
    return {(violation.broken, violation.token) for violation in outcome.violations}


async def test_what_the_campaign_notices(tmp_path: Path) -> None:
    async with world(CompletedCommandForgotten.plan, tmp_path) as made:
        forgotten = CompletedCommandForgotten()
        outcome = await run_fault(made, forgotten, SEED, times=1)
        assert broken(outcome) == {(Broken.UNREADABLE, forgotten.token)}

        outcome = await run_fault(made, CalmPause(0.5), SEED, times=1)
        assert (broken(outcome), outcome.invalid) == (set(), "bit 0 of 1 times")

        outcome = await run_fault(made, QuietTraceback(), SEED, times=1)
        assert broken(outcome) == {(Broken.COMPLAINED, "server0")}
        assert "KeyError" in outcome.violations[0].text

        run_twice = RunTwice()
        outcome = await run_fault(made, run_twice, SEED, times=1)
        assert broken(outcome) == {(Broken.STARTED_TOO_OFTEN, run_twice.repeated)}
        assert outcome.bites == ["2 and 3 starts"]

        outcome = await run_fault(made, KilledWithCommandsQueued(), SEED, times=1)
        assert (broken(outcome), outcome.bites) == (set(), ["queued, attempt 0"])

        outcome = await run_fault(made, CrowdRefused(), SEED, times=1)
        assert broken(outcome) == {(Broken.REFUSED_FOR_NOTHING, agent.agent_id) for agent in made.agents}

        outcome = await run_fault(made, SlowReturn(), SEED, times=1, patience=1 / SlowReturn.recovers_within_seconds)
        assert broken(outcome) == {(Broken.SLOW_RECOVERY, "slow return")}
