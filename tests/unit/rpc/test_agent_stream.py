"""What one stream reads, writes and waits for; the wire and the store are in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from distributor.dispatch.agent_registry import CloseReason
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.session_renewals import SessionRenewals
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Unavailable
from distributor.model.agent import Renewal
from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import MAX_ITEMS_PER_MESSAGE, AgentSession
from distributor.model.delivery import Claim, ClaimedCommand, Completion, CompletionOutcome
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.model.stop_scope import StopScope
from distributor.rpc.agent_stream import LAST_WRITE_SECONDS, AgentStream
from distributor.rpc.session_clock import monotonic_ms
from distributor.rpc.stream_writer import ACK_DELAY_SECONDS, MAX_WAITING_ACKS
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.memory_sessions import MemorySessions
from tests.support.memory_stores import MemoryOutputLog, MemoryStore
from tests.support.scripted_context import ScriptedContext
from tests.support.serving_agent import background
from tests.support.session_stages import stages
from tests.support.waiting import PATIENCE_SECONDS, until

STOP = EmergencyStop("s1", StopScope(all=True), "leak", "tester", 1)
TURNS = 50
"""Turns of the event loop: more than anything in memory takes that is not held up."""


class CountedReports(AgentReports):
    count = 0

    async def handle(self, *arguments: Any) -> Any:
        self.count += 1
        return await super().handle(*arguments)


class World:
    """A stream to an agent with room for five commands."""

    def __init__(self, last_write_seconds: float = LAST_WRITE_SECONDS) -> None:
        self.context = ScriptedContext()
        self.store = MemoryStore()
        self.session = AgentSession("agent123", 1, 5, monotonic_ms())
        self.reports = CountedReports(self.store, MemoryOutputLog(), Wakeups(), RetryPolicy(10, 10))
        self.stream = AgentStream(
            self.context, self.session, self.reports, SessionRenewals(MemorySessions(), 0.0), last_write_seconds
        )

    def deliver(self, command_id: str, encoded: bytes | None = None, attempt: int = 1, lease_id: str = "lease") -> None:
        if encoded is None:
            encoded = command_pb2.Command(command_id=command_id, type="PING").SerializeToString()
        claimed = [ClaimedCommand(command_id, attempt, encoded)]
        self.stream.deliver(Claim("agent123", 1, lease_id, 1_000, False, claimed), 0)

    @property
    def told(self) -> list[str]:
        """Commands and cancels in the order of sending."""
        return [
            word
            for message in self.context.written
            for word in (
                *(f"cancel {one.command_id}" for one in message.cancels),
                *(f"run {one.command.command_id}" for one in message.commands.assignments),
            )
        ]

    @property
    def cancelled_leases(self) -> list[str]:
        return [one.lease_id for message in self.context.written for one in message.cancels]


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_cancel_that_overtakes_the_reply_to_the_claim_follows_the_command(world: World) -> None:
    world.stream.cancel("c1", "enough")
    world.deliver("c1")
    await until(lambda: len(world.told) == 2)
    assert world.told == ["run c1", "cancel c1"]


@pytest.mark.parametrize("given_up", ["before the cancel", "after the cancel", "later"])
async def test_a_cancel_that_overtakes_the_reply_to_a_later_claim_reaches_that_attempt(
    world: World, given_up: str
) -> None:
    world.deliver("c1", lease_id="first")
    await until(lambda: len(world.told) == 1)

    def give_up() -> None:
        assert world.session.lost("c1", 1) == "first"
        world.stream.withdraw("c1", "first", "not acknowledged", stop=False)

    if given_up == "before the cancel":
        give_up()
    # The store has assigned the second attempt by now; another replica's cancel comes before the reply.
    world.stream.cancel("c1", "enough")
    if given_up == "after the cancel":
        give_up()
        world.session.cancelling("c1", "enough")
    world.deliver("c1", attempt=2, lease_id="second")
    await until(lambda: len(world.cancelled_leases) == 2)
    assert world.cancelled_leases == ["first", "second"]
    await until(lambda: world.told[-2:] == ["run c1", "cancel c1"])


async def test_an_agent_is_served_until_it_has_moved_away_from_a_draining_server(world: World) -> None:
    world.stream.drain(0.5)
    assert world.session.credit == 5
    claimed = [ClaimedCommand("c1", 1, command_pb2.Command(command_id="c1").SerializeToString())]
    assert world.stream.deliver(Claim("agent123", 1, "lease", 1_000, False, claimed), 0)
    await until(lambda: world.context.written)
    await world.stream.close()
    assert world.told == ["run c1"]
    assert world.context.written[0].drain.reconnect_after.ToMilliseconds() == 500


async def test_nothing_is_delivered_to_one_who_has_said_goodbye(world: World) -> None:
    world.context.say(pb.ConnectRequest(goodbye=pb.Goodbye(reason="shift over")))
    async with background(world.stream.read()):
        await until(lambda: world.session.credit == 0)
        claimed = [ClaimedCommand("c1", 1, command_pb2.Command(command_id="c1").SerializeToString())]
        assert not world.stream.deliver(Claim("agent123", 1, "lease", 1_000, False, claimed), 0)
        world.context.half_close()


async def test_a_message_after_goodbye_is_named_in_the_debug_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.context.say(pb.ConnectRequest(goodbye=pb.Goodbye(reason="shift over")))
    world.context.say(pb.ConnectRequest(results=[pb.Result(command_id="c1")]))
    with caplog.at_level(logging.DEBUG, logger="distributor"):
        assert await world.stream.read()
    assert [line.getMessage() for line in caplog.records] == [
        "message after goodbye ignored agent_id=agent123 parts=['results']"
    ]
    assert world.store.completions == []


async def test_a_stream_that_is_ended_between_goodbye_and_half_close_warns_of_nothing(world: World) -> None:
    warnings: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, warning: warnings.append(warning))
    try:
        world.context.say(pb.ConnectRequest(goodbye=pb.Goodbye(reason="shift over")))
        world.context.fail(grpc.aio.AbortError("Locally aborted"))
        assert await world.stream.read()
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert warnings == []


async def test_a_cancel_of_what_the_agent_never_gets_is_not_sent(world: World) -> None:
    world.stream.cancel("c1", "enough")
    world.deliver("c2")
    await until(lambda: world.told)
    await world.stream.close()
    assert world.told == ["run c2"]


async def test_what_is_withdrawn_is_stopped_once_it_was_sent(world: World) -> None:
    world.deliver("c1")
    await until(lambda: world.told)
    world.session.received("c1", "lease", monotonic_ms())
    assert world.session.lost("c1", 1) == "lease"
    world.stream.withdraw("c1", "lease", "time_limit", stop=True)
    await until(lambda: len(world.told) == 2)
    assert world.told == ["run c1", "cancel c1"]
    # Until the agent says that it stopped, or never had it, it takes up room.
    assert world.session.credit == 4
    report = pb.CancelReport(command_id="c1", finding=pb.CANCEL_FINDING_UNKNOWN, lease_id="lease")
    world.context.say(pb.ConnectRequest(cancel_reports=[report]))
    world.context.half_close()
    await world.stream.read()
    assert world.session.credit == 5
    assert world.store.completions == []


async def test_what_an_agent_that_reads_late_hears_of_one_attempt_is_not_taken_for_the_next(world: World) -> None:
    """Its first attempt lies in a write that is stuck, is given up and claimed again before anything more is sent."""
    world.context.deaf = True
    world.deliver("c1")
    await asyncio.sleep(0)
    world.session.lost("c1", 1)
    world.stream.withdraw("c1", "lease", "not acknowledged", stop=True)
    world.deliver("c1", attempt=2, lease_id="lease-2")
    world.context.deaf = False
    await until(lambda: len(world.told) == 3)
    assert world.told == ["run c1", "cancel c1", "run c1"]
    # It refuses the first as stale, so the cancel meets nothing; then it starts the second.
    (cancel,) = [one for message in world.context.written for one in message.cancels]
    report = pb.CancelReport(command_id="c1", finding=pb.CANCEL_FINDING_UNKNOWN, lease_id=cancel.lease_id)
    started = pb.Started(command_id="c1", lease_id="lease-2")
    world.context.say(pb.ConnectRequest(started=[started], cancel_reports=[report]))
    world.context.half_close()
    await world.stream.read()
    assert world.store.completions == []
    assert world.session.holds("c1", "lease-2")


async def test_a_write_that_was_stuck_is_no_receipt_of_the_attempt_after_it(world: World) -> None:
    world.context.deaf = True
    world.deliver("c1")
    await asyncio.sleep(0)
    world.session.lost("c1", 1)
    world.session.claimed("c1", "lease-2", 2, monotonic_ms())
    world.context.deaf = False
    await until(lambda: world.told == ["run c1"])
    await world.stream.close()
    assert stages(world.session, "c1", "lease-2").sent is None


async def test_a_command_that_cannot_be_read_fails_and_the_stream_goes_on(world: World) -> None:
    world.deliver("c1", b"\xff\xff\xff")
    world.deliver("c2")
    await until(lambda: world.told)
    assert world.told == ["run c2"]
    (completion,) = world.store.completions
    assert (completion.progress.command_id, completion.progress.lease_id) == ("c1", "lease")
    assert (completion.status, completion.reason.code) == (CommandStatus.FAILED, "unreadable_command")
    assert set(world.session.in_flight) == {"c2"}


async def test_a_command_that_cannot_be_read_while_the_store_is_away_does_not_end_the_stream(world: World) -> None:
    world.store.away = True
    world.deliver("c1", b"\xff\xff\xff")
    world.deliver("c2")
    await until(lambda: world.told)
    assert world.told == ["run c2"]


async def test_a_heartbeat_that_comes_alone_is_no_report_however_long_it_is(world: World) -> None:
    long = pb.Heartbeat(sequence=1, credit=5)
    # As a newer agent may say more than we know of.
    long.MergeFromString(b"\xfa\x01\x80\x02" + bytes(256))
    world.context.say(pb.ConnectRequest(heartbeat=long))
    world.context.say(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=2), started=[pb.Started(command_id="c1")]))
    world.context.half_close()
    assert not await world.stream.read()
    assert world.reports.count == 1


def results(number: int) -> pb.ConnectRequest:
    ids = [f"{number}-{n}" for n in range(MAX_ITEMS_PER_MESSAGE)]
    return pb.ConnectRequest(results=[pb.Result(command_id=one, lease_id="lease") for one in ids])


async def test_a_heartbeat_is_answered_only_after_the_store_has_renewed_the_session(world: World) -> None:
    """The agent starts commands by the heartbeat that was answered last; an answer without a session is a lie."""
    renewed = asyncio.Event()
    asked = asyncio.Event()

    class SlowSessions(MemorySessions):
        async def heartbeat(self, renewals: Sequence[Renewal]) -> list[bool]:
            asked.set()
            await renewed.wait()
            return await super().heartbeat(renewals)

    stream = AgentStream(world.context, world.session, world.reports, SessionRenewals(SlowSessions()))
    world.context.say(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1, credit=5)))
    async with background(stream.read()):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asked.wait()
        # As often as it takes a writer to take what there is to send.
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.context.written == []
        renewed.set()
        await until(lambda: world.context.written)
        assert world.context.written[0].heartbeat_reply.sequence == 1
        world.context.half_close()


async def test_a_session_that_the_store_does_not_renew_is_not_answered(world: World) -> None:
    class SupersededSessions(MemorySessions):
        async def heartbeat(self, renewals: Sequence[Renewal]) -> list[bool]:
            return [False]

    stream = AgentStream(world.context, world.session, world.reports, SessionRenewals(SupersededSessions()))
    world.context.say(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1, credit=5)))
    async with background(stream.read()):
        await until(lambda: world.context.aborted)
        assert world.context.aborted == (grpc.StatusCode.ABORTED, "a newer session of this agent is open")
    await stream.close()
    assert world.context.written == []


async def test_a_stream_that_is_being_ended_and_then_fails_has_the_status_of_its_end(world: World) -> None:
    world.stream.end(CloseReason.SUPERSEDED)
    world.context.say(pb.ConnectRequest(hello=pb.Hello()))
    assert await world.stream.read() is False
    assert world.context.aborted == (grpc.StatusCode.ABORTED, "a newer session of this agent is open")


async def test_a_heartbeat_waits_for_an_absent_store_without_holding_up_what_follows(world: World) -> None:
    away = asyncio.Event()

    class AbsentSessions(MemorySessions):
        async def heartbeat(self, renewals: Sequence[Renewal]) -> list[bool]:
            if not away.is_set():
                raise Unavailable("Valkey is away")
            return await super().heartbeat(renewals)

    stream = AgentStream(world.context, world.session, world.reports, SessionRenewals(AbsentSessions(), 0.0))
    for sequence in (1, 2):
        world.context.say(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=sequence, credit=5)))
    world.context.say(results(1))
    async with background(stream.read()) as reading:
        await until(lambda: world.context.written)
        assert len(world.context.written[0].result_acks) == MAX_ITEMS_PER_MESSAGE
        away.set()
        await until(lambda: world.context.written[-1].heartbeat_reply.sequence == 2)
        assert not reading.done()
        world.context.half_close()


@contextlib.asynccontextmanager
async def stuck_store(world: World, then: pb.ConnectRequest | None = None) -> AsyncIterator[asyncio.Event]:
    """The stream gets a result whose storing waits for the event, then another message; everything was tried."""
    stored, finish = asyncio.Event(), world.store.finish

    async def waiting(completions: Sequence[Completion]) -> list[CompletionOutcome]:
        await stored.wait()
        return await finish(completions)

    world.store.finish = waiting  # type: ignore[method-assign]
    world.deliver("c1")
    await until(lambda: world.told)
    result = pb.Result(command_id="c1", lease_id="lease", status=command_pb2.COMMAND_STATUS_COMPLETED)
    world.context.say(pb.ConnectRequest(results=[result]))
    if then is not None:
        world.context.say(then)
    async with background(world.stream.read()):
        for _ in range(TURNS):
            await asyncio.sleep(0)
        yield stored
        world.context.half_close()


async def test_a_result_is_acknowledged_once_it_is_stored(world: World) -> None:
    async with stuck_store(world) as stored:
        # Acknowledgements wait for other messages, but no longer than this.
        await asyncio.sleep(2 * ACK_DELAY_SECONDS)
        assert not any(message.result_acks for message in world.context.written)
        stored.set()
        await until(lambda: any(message.result_acks for message in world.context.written))


async def test_a_heartbeat_is_not_answered_before_what_came_ahead_of_it_is_stored(world: World) -> None:
    """It proves that the way the work takes is open, so it must not take another."""
    async with stuck_store(world, pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1, credit=5))) as stored:
        assert not any(message.HasField("heartbeat_reply") for message in world.context.written)
        stored.set()
        await until(lambda: any(message.HasField("heartbeat_reply") for message in world.context.written))


async def test_an_agent_that_reads_no_answers_is_not_heard(world: World) -> None:
    world.context.deaf = True
    messages = 3 * MAX_WAITING_ACKS // MAX_ITEMS_PER_MESSAGE
    for number in range(messages):
        world.context.say(results(number))
        for n in range(MAX_ITEMS_PER_MESSAGE):
            world.store.outcomes[f"{number}-{n}"] = CompletionOutcome.UNKNOWN
    async with background(world.stream.read()):
        heard = MAX_WAITING_ACKS // MAX_ITEMS_PER_MESSAGE + 1
        await until(lambda: world.context.unread <= messages - heard)
        for _ in range(100):
            await asyncio.sleep(0)
        # One more where a message of answers is being written already.
        assert world.context.unread >= messages - heard - 1
        world.context.deaf = False
        await until(lambda: sum(len(message.result_acks) for message in world.context.written) == 600)
        assert world.context.unread == 0


async def test_closing_does_not_wait_for_an_agent_that_does_not_read() -> None:
    world = World(last_write_seconds=0.01)
    world.context.deaf = True
    world.deliver("c1")
    # Now its write is under way.
    await asyncio.sleep(0)
    world.deliver("c2")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await world.stream.close() == [("c2", "lease")]


@pytest.mark.parametrize("something_to_say", [True, False])
async def test_ending_does_not_wait_for_an_agent_that_does_not_read(
    something_to_say: bool,
) -> None:
    world = World(last_write_seconds=0.01)
    world.context.deaf = True
    if something_to_say:
        world.deliver("c1")
    reading = asyncio.create_task(world.stream.read())
    await asyncio.sleep(0)
    world.stream.end(CloseReason.SILENT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait([reading])
    assert reading.cancelled()
    await world.stream.close()
    assert world.context.aborted is None
    # Should it ever read again, it learns why.
    world.context.deaf = False
    await until(lambda: world.context.aborted)


async def test_under_a_halt_nothing_is_sent_that_was_claimed_before(world: World) -> None:
    world.deliver("unsent")
    # Before the writer has had its turn.
    withheld = world.stream.halt(STOP)
    assert withheld == [LeaseRef("unsent", "lease")]
    assert "unsent" not in world.session.in_flight
    late = [ClaimedCommand("late", 1, command_pb2.Command(command_id="late", type="WORK").SerializeToString())]
    assert not world.stream.deliver(Claim("agent123", 1, "lease2", 1_000, False, late), 0)
    control = [ClaimedCommand("ping", 1, command_pb2.Command(command_id="ping", type="PING").SerializeToString())]
    assert world.stream.deliver(Claim("agent123", 1, "lease3", 1_000, False, control, 1), 0)
    await until(lambda: world.told)
    assert world.told == ["run ping"]
    world.stream.resume()
    world.deliver("after")
    await until(lambda: world.told == ["run ping", "run after"])


async def test_only_an_agent_that_knows_halts_is_sent_one(world: World) -> None:
    world.stream.halt(STOP)
    world.stream.resume()
    world.stream.knows_halts = True
    world.stream.halt(STOP)
    await until(lambda: world.context.written)
    (message,) = world.context.written
    assert (message.halt.stop_id, message.halt.reason) == ("s1", "leak")
