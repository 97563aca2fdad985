"""Claims queued commands for attached agents with free room, and delivers them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Coroutine, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import Any, NamedTuple

from distributor.dispatch.agent_registry import AgentRegistry, AttachedAgent, CloseReason
from distributor.dispatch.ports import CommandStore
from distributor.dispatch.random_bits import RandomBits
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.assignment import Offer, Room, assign
from distributor.model.delivery import NOT_DELIVERED, Claim, ClaimRequest, Release
from distributor.observability.metrics import Metrics
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

BUSY_PAUSE_SECONDS = 0.003
MAX_OFFERS = 250
"""Agents per claim: at most what the store takes in one step, so that each claim succeeds or fails as a whole."""
LARGE_CLAIM_BYTES = 1024 * 1024
"""The store also limits claims by bytes, so a claim this large may be incomplete: claim again."""


class _Offered(NamedTuple):
    """An offer under way: room is reserved in the agent's session until it is settled."""

    agent: AttachedAgent
    offer: Offer
    after_heartbeat: int
    """The heartbeat answered last before the claim: its commands are no older."""
    fresh_until: float
    """Until when its commands can be delivered, in monotonic milliseconds: the agent refuses later ones as stale."""


class CommandDistributor:
    """Claims commands within each agent's credit and passes them to the streams.

    Serves agents named by the wakeups at once, and all agents every `polling_interval` seconds. `claim_now` claims in
    the exchange that queues a command. Each claim reserves its room, so several may be under way.
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
        self._outage = Outage("claim commands")
        self._lease_bits = RandomBits()
        self._in_progress: set[asyncio.Future[Any]] = set()
        """Claims of `claim_now`, and releases of what they brought in vain."""
        self._again: set[str] = set()
        """Agents woken while claims under way had all their room: these may have missed what woke them."""

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
                await self.run_once(woken, frozenset(control))
                self._outage.recovered()
                if self._store.busy:
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)
                self._wake(woken, frozenset(control))

    async def run_once(self, agent_ids: Iterable[str], control: Set[str] = frozenset()) -> int:
        """Claim for these agents and deliver; return the number of commands delivered.

        An agent without credit is served only if it is in `control`. If some claims fail, the others are delivered
        before the error is raised.
        """
        offered = self._offer(self._attached(agent_ids), control)
        parts = [offered[first : first + MAX_OFFERS] for first in range(0, len(offered), MAX_OFFERS)]
        claiming = [self._claim(part) for part in parts]
        delivered, failure = 0, None
        for part, claims in zip(parts, claiming, strict=True):
            try:
                delivered += await self._settle(part, claims)
            except DistributorError as error:
                failure = error
        if failure is not None:
            raise failure
        return delivered

    async def _settle(self, offered: Sequence[_Offered], claiming: Awaitable[Sequence[Claim]]) -> int:
        """Await a claim and deliver what it brought; return the number of commands."""
        claims: Sequence[Claim] = ()
        try:
            claims = await claiming
            unpacking = self._store.unpack(claims)
            if unpacking is not None:
                claims = await unpacking
        finally:
            self._end_claims(offered)
        undelivered = self._deliver(claims, offered)
        if undelivered:
            await self._release(undelivered)
        return sum([len(claim.commands) for claim in claims])

    def claim_now(self, agent_ids: Iterable[str], control: Set[str] = frozenset()) -> None:
        """Claim for those of these agents that are attached here, and return at once.

        The claim has its place in the exchange that is submitted now, behind the commands queued in it. Under load it
        waits for more.
        """
        attached = self._attached(agent_ids)
        if not attached:
            return
        if self._store.busy:
            self._wake(attached, control)
            return
        offered = self._offer(attached, control)
        if offered:
            claiming = asyncio.ensure_future(self._claim(offered))
            self._in_progress.add(claiming)
            claiming.add_done_callback(partial(self._claimed, offered))

    async def idle(self) -> None:
        """Return once no claim of `claim_now` is under way."""
        while self._in_progress:
            await asyncio.wait(self._in_progress)

    def _claimed(self, offered: Sequence[_Offered], claiming: asyncio.Future[list[Claim]]) -> None:
        """A claim of `claim_now` has ended. A callback: in most cases nothing waits, and a task would cost more."""
        self._in_progress.discard(claiming)
        if claiming.cancelled():
            self._end_claims(offered)
            return
        error = claiming.exception()
        if error is not None:
            self._end_claims(offered)
            self._failed(offered)
            if not isinstance(error, DistributorError):
                raise error
            return
        claims = claiming.result()
        unpacking = self._store.unpack(claims)
        if unpacking is not None:
            self._start(self._unpack_and_deliver(unpacking, offered))
            return
        self._end_claims(offered)
        undelivered = self._deliver(claims, offered)
        if undelivered:
            self._start(self._release_or_wake(undelivered, offered))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._in_progress.add(task)
        task.add_done_callback(self._in_progress.discard)

    async def _unpack_and_deliver(self, unpacking: Awaitable[list[Claim]], offered: Sequence[_Offered]) -> None:
        try:
            claims = await unpacking
        finally:
            self._end_claims(offered)
        undelivered = self._deliver(claims, offered)
        if undelivered:
            await self._release_or_wake(undelivered, offered)

    async def _release_or_wake(self, undelivered: Sequence[Claim], offered: Sequence[_Offered]) -> None:
        try:
            await self._release(undelivered)
        except DistributorError:
            self._failed(offered)

    def _failed(self, offered: Sequence[_Offered]) -> None:
        """Wake the agents: the loop tries again, and reports the failure if it lasts."""
        agent_ids = [one.offer.agent_id for one in offered]
        self._wake(agent_ids, frozenset(agent_ids))

    def _end_claims(self, offered: Sequence[_Offered]) -> None:
        """Free the room that was reserved; what the claims brought takes it."""
        for one in offered:
            one.agent.session.end_claim(one.offer.max_slots, one.offer.max_control)
        if self._again:
            self._wake_again(offered)

    def _wake_again(self, offered: Sequence[_Offered]) -> None:
        missed = {one.offer.agent_id for one in offered} & self._again
        self._again -= missed
        self._wake(missed, missed)

    def _wake(self, agent_ids: Iterable[str], control: Set[str]) -> None:
        for agent_id in agent_ids:
            self._wakeups.wake(agent_id, agent_id in control)

    def _attached(self, agent_ids: Iterable[str]) -> dict[str, AttachedAgent]:
        """Those of these agents that are attached here."""
        return {agent_id: agent for agent_id in agent_ids if (agent := self._registry.get(agent_id)) is not None}

    def _offer(self, agents: Mapping[str, AttachedAgent], control: Set[str]) -> list[_Offered]:
        """Decide what to offer, and reserve the room for it."""
        rooms: list[Room] = []
        now = _monotonic_ms()
        for agent_id, agent in agents.items():
            session = agent.session
            # Commands that arrive while the agent has no room are found when its next result frees some.
            session.more_waiting = True
            if not session.fresh(now):
                # Those that arrive now are found when its next heartbeat is answered.
                session.control_waiting = True
                continue
            credit, control_credit = session.credit, session.control_credit
            looks_for_control = credit > 0 or agent_id in control
            session.control_waiting |= looks_for_control
            rooms.append(Room(agent_id, credit, control_credit if looks_for_control else 0, session.needed_slots))
            if not (credit and control_credit) and session.claiming:
                self._again.add(agent_id)
        offered = []
        for offer in assign(rooms, self._batch_size, self._turn):
            agent = agents[offer.agent_id]
            session = agent.session
            session.reserve(offer.max_slots, offer.max_control)
            fresh_until = session.heartbeat_received_at + session.fresh_for_ms
            offered.append(_Offered(agent, offer, session.answered_heartbeat, fresh_until))
        self._turn += 1
        return offered

    def _claim(self, offered: Sequence[_Offered]) -> Awaitable[Sequence[Claim]]:
        return self._store.claim(
            [
                ClaimRequest(
                    one.offer.agent_id,
                    one.agent.session.epoch,
                    one.offer.max_commands,
                    f"{self._lease_bits.take():016x}",
                    one.offer.max_control,
                    one.offer.extra_slots,
                )
                for one in offered
            ]
        )

    def _deliver(self, claims: Sequence[Claim], offered: Sequence[_Offered]) -> list[Claim]:
        """Pass what claims brought to their agents; return the claims whose streams are gone."""
        claimed_bytes = sum([len(item.encoded) for claim in claims for item in claim.commands])
        cut_short = claimed_bytes >= LARGE_CLAIM_BYTES
        return [
            claim for claim, one in zip(claims, offered, strict=True) if not self._deliver_one(claim, one, cut_short)
        ]

    def _deliver_one(self, claim: Claim, offered: _Offered, cut_short: bool) -> bool:
        """Deliver a claim. Return False if its stream is gone.

        A claim that used the whole offer, or was `cut_short`, may have left commands in the queue.
        """
        agent, offer = self._registry.get(claim.agent_id), offered.offer
        if agent is not None and agent.session.epoch != claim.epoch:
            # The agent reattached during the claim, which already requeued commands of the old session.
            agent = None
        if claim.superseded:
            if agent is not None:
                agent.end(CloseReason.SUPERSEDED)
            return True
        self._metrics.poll_batch(len(claim.commands))
        if agent is not None and claim.commands and _monotonic_ms() >= offered.fresh_until:
            self._claim_later(agent)
            return False
        if agent is None or not agent.deliver(claim, offered.after_heartbeat):
            return False
        session = agent.session
        session.needed_slots = claim.needed_slots
        full = len(claim.commands) - claim.control >= offer.max_commands or claim.slots >= offer.max_slots
        session.more_waiting = cut_short or full or claim.needed_slots > 0
        session.control_waiting = cut_short or claim.control >= offer.max_control
        # Commands that ended during the claim made room without waking anybody.
        if session.control_waiting and session.control_credit > 0:
            self._wakeups.wake(claim.agent_id, control=True)
        elif session.takes_more:
            self._wakeups.wake(claim.agent_id)
        return True

    def _claim_later(self, agent: AttachedAgent) -> None:
        """A claim was answered so late that the agent would refuse its commands: claim again after a heartbeat."""
        session = agent.session
        session.more_waiting = session.control_waiting = True
        if session.fresh(_monotonic_ms()):
            self._wakeups.wake(session.agent_id, control=True)

    async def _release(self, claims: Sequence[Claim]) -> None:
        """Release undelivered commands. If this fails, the ack deadline requeues them."""
        await self._store.release(
            [
                Release(item.command_id, claim.agent_id, claim.lease_id, 0, NOT_DELIVERED, counts=False, unsent=True)
                for claim in claims
                for item in claim.commands
            ]
        )


def _monotonic_ms() -> float:
    """Current time on the clock that sessions use."""
    return time.monotonic() * 1000
