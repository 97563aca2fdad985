"""The session against any order of claims, reports, heartbeats and ends."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distributor.model.agent_session import AgentSession
from tests.support.session_stages import stages

IDS = [str(number) for number in range(6)]
"""Few, so that most of what is said is about a command that is in flight."""
COMMANDS = st.sampled_from(IDS)
LEASES = st.sampled_from(["lease1", "lease2"])


class SessionMachine(RuleBasedStateMachine):
    """Plays the distributor and the agent, and keeps its own small account of what is in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.capacity = 4
        self.session = AgentSession("agent123", 1, self.capacity, self.now)
        self.leases: dict[str, str] = {}
        self.reached: dict[str, list[str]] = {}
        self.stopping: dict[str, str] = {}
        """Taken away, and still running at the agent."""
        self.slots: dict[str, int] = {}
        self.leaving = False

    @rule(ms=st.integers(1, 1_000))
    def wait(self, ms: int) -> None:
        self.now += ms

    @precondition(lambda self: self.session.credit > 0)
    @rule(data=st.data(), lease_id=LEASES)
    def claim_heavy(self, data: st.DataObject, lease_id: str) -> None:
        fresh = sorted(set(IDS) - self.leases.keys() - self.stopping.keys())
        command_id = data.draw(st.sampled_from(fresh))
        self.begin(command_id, lease_id)
        self.slots[command_id] = data.draw(st.integers(1, self.session.credit + 1))
        self.session.weigh(command_id, self.slots[command_id])

    @precondition(lambda self: self.session.credit > 0)
    @rule(data=st.data(), lease_id=LEASES)
    def claim(self, data: st.DataObject, lease_id: str) -> None:
        fresh = sorted(set(IDS) - self.leases.keys() - self.stopping.keys())
        taken = data.draw(st.lists(st.sampled_from(fresh), min_size=1, max_size=self.session.credit, unique=True))
        for command_id in taken:
            self.begin(command_id, lease_id)

    def begin(self, command_id: str, lease_id: str) -> None:
        self.session.claimed(command_id, lease_id, 1, self.now)
        self.leases[command_id] = lease_id
        self.reached[command_id] = []
        self.slots[command_id] = 1

    @property
    def taken(self) -> int:
        return sum(self.slots[command_id] for command_id in [*self.leases, *self.stopping])

    @rule(command_id=COMMANDS, lease_id=LEASES)
    def send(self, command_id: str, lease_id: str) -> None:
        before = stages(self.session, command_id, lease_id).sent
        self.session.sent([(command_id, lease_id)], self.now)
        after = stages(self.session, command_id, lease_id).sent
        assert (after is not None) == (self.leases.get(command_id) == lease_id)
        assert before in (None, after)

    @rule(command_id=COMMANDS, lease_id=LEASES, stage=st.sampled_from(["received", "started"]))
    def report(self, command_id: str, lease_id: str, stage: str) -> None:
        heard_of = self.reached.get(command_id, [])
        is_news = self.leases.get(command_id) == lease_id and stage not in heard_of
        if stage == "received":
            is_news = is_news and "started" not in heard_of
            assert self.session.received(command_id, lease_id, self.now) == is_news
        else:
            assert self.session.started(command_id, lease_id, self.now) == is_news
        if is_news:
            heard_of.append(stage)

    @rule(command_id=COMMANDS, attempt=st.integers(1, 2), by_deadline=st.booleans(), lease_id=LEASES)
    def end(self, command_id: str, attempt: int, by_deadline: bool, lease_id: str) -> None:
        if by_deadline:
            lost = self.session.lost(command_id, attempt)
            assert lost == (self.leases.get(command_id) if attempt == 1 else None)
            if lost is None:
                return
            if self.reached[command_id]:
                self.stopping[command_id] = lost
        else:
            self.session.ended(command_id, lease_id)
            if self.stopping.get(command_id) == lease_id:
                del self.stopping[command_id]
            if self.leases.get(command_id) != lease_id:
                return
        self.leases.pop(command_id, None)
        self.reached.pop(command_id, None)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def take_away(self, data: st.DataObject) -> None:
        """What `report` and `end` come to by themselves too rarely."""
        command_id = data.draw(st.sampled_from(sorted(self.leases)))
        self.report(command_id, self.leases[command_id], "received")
        self.end(command_id, 1, by_deadline=True, lease_id="")

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.stopping)))
        self.session.ended(command_id, self.stopping.pop(command_id))

    @rule(leaving=st.booleans())
    def heartbeat(self, leaving: bool) -> None:
        """The agent counts what it has said to have received, and what it still stops."""
        counted = [command_id for command_id, reached in self.reached.items() if reached] + list(self.stopping)
        running = sum(self.slots[command_id] for command_id in counted)
        credit = 0 if leaving else self.capacity - running
        self.session.heartbeat(self.session.answered_heartbeat + 1, credit, running, self.now)
        self.leaving = leaving and running < self.capacity

    @precondition(lambda self: self.session.answered_heartbeat > 5)
    @rule()
    def drain(self) -> None:
        self.session.ending = True

    @invariant()
    def credit_and_what_is_in_flight_fit_into_the_capacity(self) -> None:
        assert set(self.session.in_flight) == set(self.leases)
        assert 0 <= self.session.credit <= self.capacity - self.taken

    @invariant()
    def one_that_leaves_is_given_nothing_and_any_other_all_it_has_room_for(self) -> None:
        if self.session.ending or self.leaving:
            assert self.session.credit == 0
        else:
            assert self.session.credit == self.capacity - self.taken

    @invariant()
    def stages_come_in_their_order(self) -> None:
        for command_id, lease_id in self.leases.items():
            _, acknowledged, started = stages(self.session, command_id, lease_id)
            assert started is None or (acknowledged is not None and 0 <= acknowledged <= started)


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=300, stateful_step_count=40)
