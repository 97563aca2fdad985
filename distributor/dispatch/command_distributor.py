"""Claims queued commands for attached agents with free room, and delivers them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Sequence, Set

from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.ports import CommandStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.assignment import Offer, Room, assign
from distributor.model.delivery import NOT_DELIVERED, Claim, ClaimRequest, Release
from distributor.model.pace import Pace
from distributor.observability.metrics import Metrics
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

BUSY_COMMANDS_PER_SECOND = 1_000
BUSY_PAUSE_SECONDS = 0.003
LARGE_CLAIM_BYTES = 1024 * 1024
"""The store also limits claims by bytes, so a claim this large may be incomplete: claim again."""


class CommandDistributor:
    """Claims commands within each agent's credit and passes them to the streams.

    Serves agents named by the wakeups at once, and all agents every `polling_interval` seconds. Rounds run one at a
    time, so no agent is claimed for twice concurrently.
    """

    def __init__(
        self,
        store: CommandStore,
        registry: AgentRegistry,
        wakeups: Wakeups,
        metrics: Metrics,
        *,
        polling_interval: float = 5.0,
        batch_size: int = 20,
    ) -> None:
        self._store = store
        self._registry = registry
        self._wakeups = wakeups
        self._metrics = metrics
        self._polling_interval = polling_interval
        self._batch_size = batch_size
        self.wait_after_failure_seconds = WAIT_AFTER_FAILURE_SECONDS
        self._turn = 0
        self._pace = Pace(BUSY_COMMANDS_PER_SECOND)
        self._outage = Outage("claim commands")

    async def run(self) -> None:
        """Serve wakeups and polls until cancelled."""
        loop = asyncio.get_running_loop()
        next_poll = loop.time()
        while True:
            await self._wakeups.wait(max(0.0, next_poll - loop.time()))
            woken: Collection[str] = self._wakeups.take()
            control: Collection[str] = self._wakeups.take_control()
            if loop.time() >= next_poll:
                next_poll = loop.time() + self._polling_interval
                woken = control = [agent.session.agent_id for agent in self._registry]
            try:
                delivered = await self.run_once(woken, frozenset(control))
                self._outage.recovered()
                if self._pace.note(delivered, loop.time()):
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)
                for agent_id in woken:
                    self._wakeups.wake(agent_id, agent_id in control)

    async def run_once(self, agent_ids: Iterable[str], control: Set[str] = frozenset()) -> int:
        """Claim for these agents and deliver; return the number of commands delivered.

        An agent without credit is served only if it is in `control`.
        """
        rooms: list[Room] = []
        for agent_id in agent_ids:
            agent = self._registry.get(agent_id)
            if agent is not None:
                # Commands that arrive while the agent has no room are found when its next result frees some.
                agent.session.more_waiting = True
                agent.session.begin_claim()
                credit = agent.session.credit
                looks_for_control = credit > 0 or agent_id in control
                agent.session.control_waiting |= looks_for_control
                rooms.append(Room(agent_id, credit, agent.session.control_credit if looks_for_control else 0))
        offers = assign(rooms, self._batch_size, self._turn)
        self._turn += 1
        if not offers:
            return 0
        claims = await self._store.claim(
            [
                ClaimRequest(agent_id, agent.session.epoch, max_commands, secrets.token_hex(8), max_control)
                for agent_id, max_commands, max_control in offers
                if (agent := self._registry.get(agent_id)) is not None
            ]
        )
        offered = {offer.agent_id: offer for offer in offers}
        cut_short = sum(len(item.encoded) for claim in claims for item in claim.commands) >= LARGE_CLAIM_BYTES
        undelivered = [claim for claim in claims if not self._deliver(claim, offered[claim.agent_id], cut_short)]
        await self._release(undelivered)
        return sum(len(claim.commands) for claim in claims)

    def _deliver(self, claim: Claim, offer: Offer, cut_short: bool) -> bool:
        """Deliver a claim. Return False if its stream is gone.

        A claim that used the whole offer, or was `cut_short`, may have left commands in the queue.
        """
        agent = self._registry.get(claim.agent_id)
        if agent is not None and agent.session.epoch != claim.epoch:
            # The agent reattached during the claim, which already requeued commands of the old session.
            agent = None
        if claim.superseded:
            if agent is not None:
                agent.end(CloseReason.SUPERSEDED)
            return True
        self._metrics.poll_batch(len(claim.commands))
        if agent is None or not agent.deliver(claim):
            return False
        session = agent.session
        session.more_waiting = cut_short or len(claim.commands) - claim.control >= offer.max_commands
        session.control_waiting = cut_short or claim.control >= offer.max_control
        # Commands that ended during the claim made room without waking anybody.
        if session.control_waiting and session.control_credit > 0:
            self._wakeups.wake(claim.agent_id, control=True)
        elif session.more_waiting and session.credit > 0:
            self._wakeups.wake(claim.agent_id)
        return True

    async def _release(self, claims: Sequence[Claim]) -> None:
        """Release undelivered commands. If this fails, the ack deadline requeues them."""
        await self._store.release(
            [
                Release(item.command_id, claim.agent_id, claim.lease_id, 0, NOT_DELIVERED, counts=False)
                for claim in claims
                for item in claim.commands
            ]
        )
