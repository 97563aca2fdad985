"""What every fault of a campaign says of itself."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from tests.faults.campaign.checker import Rules
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.world import Plan, World


class Fault(ABC):
    """One kind of fault. `inject` does it once, heals it, and proves that it bit."""

    name: str
    plan: Plan = Plan()
    rules: Rules = Rules()
    mix: Mix = Mix()
    times: int = 2
    """How often it is injected in a whole campaign; once in the short one."""
    ends_within_seconds: float = 40.0
    """The bound within which every acknowledged command ends once the fault is healed."""
    recovers_within_seconds: float = 10.0
    """The bound within which every agent runs a new command once the fault is healed, on a machine that is not busy."""
    exposes: bool = True
    """Whether commands must be under way while it lasts."""

    @abstractmethod
    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        """Inject and heal; return the proof that it bit, or nothing if it did not."""
