"""What goes into the next message to an agent, and what waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from distributor.model.agent_report import Answers, LeaseRef, OutputAnswer, ResultAnswer
from distributor.model.command import Reason
from distributor.model.delivery import Claim, ClaimedCommand, CompletionOutcome
from distributor.rpc.agent_outbox import MAX_EARLY_CANCELS, AgentOutbox, Outgoing
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_pb2 import Command

NOTHING: Final = Outgoing(None, [], [])


def claim(*command_ids: str, lease_id: str = "lease", attempt: int = 1) -> Claim:
    commands = [
        ClaimedCommand(one, attempt, Command(command_id=one, type="PING").SerializeToString()) for one in command_ids
    ]
    return Claim("agent123", 1, lease_id, 1_000, False, commands)


def leased(command_id: str, lease_id: str = "lease") -> LeaseRef:
    return LeaseRef(command_id, lease_id)


def taken(outbox: AgentOutbox) -> pb.ConnectResponse:
    message = outbox.take().message
    assert message is not None
    return message


def test_nothing_to_send() -> None:
    assert AgentOutbox().take() == NOTHING


FILLED: Final[dict[str, Callable[[AgentOutbox], object]]] = {
    "a heartbeat reply": lambda outbox: outbox.control().heartbeat_reply,
    "a cancel": lambda outbox: outbox.cancel("c0", "lease", "enough"),
    "a result ack": lambda outbox: outbox.answer(Answers([ResultAnswer(leased("c1"), CompletionOutcome.STORED)])),
    "an output ack": lambda outbox: outbox.answer(Answers(outputs=[OutputAnswer(leased("c2"), 100)])),
    "a command": lambda outbox: outbox.deliver(claim("c3"), after_heartbeat=6),
}


@pytest.mark.parametrize("fill", FILLED.values(), ids=FILLED)
def test_something_waits_until_it_is_taken(fill: Callable[[AgentOutbox], object]) -> None:
    outbox = AgentOutbox()
    waiting = [outbox.waiting]
    fill(outbox)
    waiting.append(outbox.waiting)
    outbox.take()
    waiting.append(outbox.waiting)
    assert waiting == [False, True, False]


def test_a_cancel_of_a_command_that_never_came_waits_for_nothing_to_be_sent() -> None:
    outbox = AgentOutbox()
    outbox.cancel_early("c1", "enough")
    assert not outbox.waiting


def test_everything_that_fits_travels_together() -> None:
    outbox = AgentOutbox()
    outbox.control().heartbeat_reply.sequence = 7
    outbox.control().drain.reconnect_after.seconds = 1
    outbox.cancel("c0", "lease", "enough")
    outbox.answer(Answers([ResultAnswer(leased("c1"), CompletionOutcome.STORED)], [OutputAnswer(leased("c2"), 100)]))
    outbox.deliver(claim("c3", "c4", attempt=2), after_heartbeat=6)
    message, sent, unreadable = outbox.take()
    assert message is not None
    assert (sent, unreadable) == ([("c3", "lease"), ("c4", "lease")], [])
    assert message.heartbeat_reply.sequence == 7
    assert message.HasField("drain")
    assert (message.cancels[0].command_id, message.cancels[0].reason) == ("c0", "enough")
    assert message.result_acks[0].verdict == pb.RESULT_VERDICT_STORED
    assert message.result_acks[0].lease_id == "lease"
    assert message.output_acks[0] == pb.OutputAck(command_id="c2", lease_id="lease", offset=100)
    assert message.commands.after_heartbeat == 6
    assert [(one.command.command_id, one.attempt, one.lease_id) for one in message.commands.assignments] == [
        ("c3", 2, "lease"),
        ("c4", 2, "lease"),
    ]
    assert outbox.take() == NOTHING


def test_no_more_than_twenty_of_a_kind() -> None:
    outbox = AgentOutbox()
    ids = [f"c{n}" for n in range(45)]
    for command_id in ids:
        outbox.cancel(command_id, "lease", "")
    outbox.answer(
        Answers(
            [ResultAnswer(leased(one), CompletionOutcome.STORED) for one in ids],
            [OutputAnswer(leased(one), 1) for one in ids],
        )
    )
    outbox.deliver(claim(*(f"d{n}" for n in range(45))), 0)
    sizes = []
    while (message := outbox.take().message) is not None:
        sizes.append(
            [
                len(message.cancels),
                len(message.result_acks),
                len(message.output_acks),
                len(message.commands.assignments),
            ]
        )
    # Commands wait until no cancel does.
    assert sizes == [[20, 20, 20, 0], [20, 20, 20, 0], [5, 5, 5, 20], [0, 0, 0, 20], [0, 0, 0, 5]]


def test_another_run_never_overtakes_the_acknowledgement_that_permits_it() -> None:
    outbox = AgentOutbox()
    outbox.answer(Answers([ResultAnswer(leased(f"c{n}"), CompletionOutcome.RUN_AGAIN) for n in range(21)], []))
    outbox.deliver(claim("c20", lease_id="two", attempt=2), 0)
    first, second = taken(outbox), taken(outbox)
    assert (len(first.result_acks), len(first.commands.assignments)) == (20, 0)
    # Within a message acknowledgements are read first.
    assert [one.command_id for one in second.result_acks] == ["c20"]
    assert [one.command.command_id for one in second.commands.assignments] == ["c20"]
    assert outbox.take() == NOTHING


def test_commands_of_two_leases_do_not_travel_together() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim("c1", lease_id="one"), 1)
    outbox.deliver(claim("c2", lease_id="two"), 2)
    assert [taken(outbox).commands.after_heartbeat for _ in range(2)] == [1, 2]


def test_a_later_acknowledgement_of_output_replaces_an_earlier_one() -> None:
    outbox = AgentOutbox()
    for offset in (10, 20, 30):
        outbox.answer(Answers([], [OutputAnswer(leased("c1"), offset)]))
    assert [one.offset for one in taken(outbox).output_acks] == [30]


def test_a_cancel_never_overtakes_its_command() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim(*(f"c{n}" for n in range(25))), 0)
    outbox.cancel("c24", "lease", "enough")
    outbox.cancel("running", "lease", "enough")
    first, second, third = taken(outbox), taken(outbox), taken(outbox)
    assert [one.command_id for one in first.cancels] == ["running"]
    # Within a message cancels are read first, so not in this one either.
    assert (list(second.cancels), len(second.commands.assignments)) == ([], 5)
    assert [one.command_id for one in third.cancels] == ["c24"]


def test_a_cancel_that_comes_before_its_command_follows_it() -> None:
    outbox = AgentOutbox()
    outbox.cancel_early("c1", "enough")
    assert outbox.take() == NOTHING
    outbox.deliver(claim("c1"), 0)
    first, second = taken(outbox), taken(outbox)
    assert (list(first.cancels), len(first.commands.assignments)) == ([], 1)
    assert [(one.command_id, one.lease_id, one.reason) for one in second.cancels] == [("c1", "lease", "enough")]
    assert outbox.take() == NOTHING


def test_of_cancels_that_come_before_their_commands_the_latest_are_kept() -> None:
    outbox = AgentOutbox()
    for n in range(MAX_EARLY_CANCELS + 1):
        outbox.cancel_early(f"c{n}", "")
    outbox.deliver(claim("c0", "c1"), 0)
    taken(outbox)
    assert [one.command_id for one in taken(outbox).cancels] == ["c1"]


def test_a_cancel_of_what_was_sent_goes_before_a_later_attempt() -> None:
    outbox = AgentOutbox()
    ids = [f"c{n}" for n in range(21)]
    outbox.deliver(claim(*ids[:20]), 0)
    outbox.deliver(claim(ids[20]), 0)
    taken(outbox), taken(outbox)
    for command_id in ids:
        outbox.withdraw(command_id, "lease", "not acknowledged")
    outbox.deliver(claim("c20", attempt=2), 0)
    first, second = taken(outbox), taken(outbox)
    assert (len(first.cancels), len(first.commands.assignments)) == (20, 0)
    assert ([one.command_id for one in second.cancels], len(second.commands.assignments)) == (["c20"], 1)
    assert outbox.take() == NOTHING


def test_a_cancel_names_the_attempt_that_it_is_for() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim("c1", "c2", lease_id="one"), 0)
    taken(outbox)
    outbox.withdraw("c1", "one", "not acknowledged")
    outbox.cancel("c2", "one", "enough")
    outbox.deliver(claim("c1", lease_id="two", attempt=2), 0)
    # Of the attempt that waits here: it goes after it, and not instead of the one for the attempt before.
    outbox.cancel("c1", "two", "enough")
    first, second = taken(outbox), taken(outbox)
    assert [(one.command_id, one.lease_id) for one in first.cancels] == [("c1", "one"), ("c2", "one")]
    assert [(one.command.command_id, one.lease_id) for one in first.commands.assignments] == [("c1", "two")]
    assert [(one.command_id, one.lease_id) for one in second.cancels] == [("c1", "two")]


def test_what_is_withdrawn_before_it_was_sent_is_not_sent_and_not_cancelled() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim("c1", lease_id="one"), 0)
    outbox.deliver(claim("c2", "c3", lease_id="two"), 0)
    outbox.cancel("c2", "two", "enough")
    assert not outbox.withdraw("c1", "one", "time_limit")
    assert not outbox.withdraw("c2", "two", "time_limit")
    message = taken(outbox)
    assert [(one.command.command_id, one.lease_id) for one in message.commands.assignments] == [("c3", "two")]
    assert list(message.cancels) == []
    assert outbox.take() == NOTHING


def test_all_attempts_that_were_sent_are_cancelled_though_a_later_one_waits() -> None:
    outbox = AgentOutbox()
    for lease_id in ("one", "two"):
        outbox.deliver(claim("c1", lease_id=lease_id), 0)
        taken(outbox)
    outbox.deliver(claim("c1", lease_id="three"), 0)
    assert [outbox.withdraw("c1", one, "enough") for one in ("three", "one", "two")] == [False, True, True]
    message = taken(outbox)
    assert [(one.command_id, one.lease_id) for one in message.cancels] == [("c1", "one"), ("c1", "two")]
    assert not message.HasField("commands")


@pytest.mark.parametrize(
    "encoded",
    [b"\xff\xff\xff", b"", Command(command_id="another", type="PING").SerializeToString()],
    ids=["no message", "empty", "another command"],
)
def test_what_is_stored_of_a_command_may_be_unreadable(encoded: bytes) -> None:
    outbox = AgentOutbox()
    readable = claim("c1", "c3").commands
    commands = [readable[0], ClaimedCommand("c2", 1, encoded), readable[1]]
    outbox.answer(Answers([ResultAnswer(leased("c0"), CompletionOutcome.STORED)], []))
    outbox.deliver(Claim("agent123", 1, "lease", 1_000, False, commands), 5)
    message, sent, unreadable = outbox.take()
    assert message is not None
    assert (sent, unreadable) == ([("c1", "lease"), ("c3", "lease")], [("c2", "lease")])
    assert [one.command.command_id for one in message.commands.assignments] == ["c1", "c3"]
    assert len(message.result_acks) == 1
    outbox.deliver(Claim("agent123", 1, "lease", 1_000, False, [commands[1]]), 5)
    assert outbox.take() == (None, [], [("c2", "lease")])


def test_what_was_never_sent_is_given_back_once() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim(*(f"c{n}" for n in range(21)), lease_id="one"), 0)
    outbox.deliver(claim("d", lease_id="two"), 0)
    outbox.take()
    assert outbox.unsent() == [("c20", "one"), ("d", "two")]
    assert outbox.unsent() == []
    assert outbox.take() == NOTHING


def test_a_rejected_result_says_why() -> None:
    outbox = AgentOutbox()
    answers = [
        ResultAnswer(leased("c1"), CompletionOutcome.STALE, Reason("stale_lease", "given out again")),
        # Stored as a failure: the agent's own words were not.
        ResultAnswer(leased("c2"), CompletionOutcome.STORED, Reason("result_too_large", "too large")),
        ResultAnswer(leased("c3"), CompletionOutcome.LATE),
        ResultAnswer(leased("c4"), CompletionOutcome.RUN_AGAIN),
    ]
    outbox.answer(Answers(answers, []))
    assert [(one.verdict, one.reason.code) for one in taken(outbox).result_acks] == [
        (pb.RESULT_VERDICT_REJECTED, "stale_lease"),
        (pb.RESULT_VERDICT_REJECTED, "result_too_large"),
        (pb.RESULT_VERDICT_LATE, ""),
        (pb.RESULT_VERDICT_STORED, ""),
    ]


def test_output_of_two_attempts_is_answered_apart() -> None:
    outbox = AgentOutbox()
    fault = Reason("stale_lease", "the command is not assigned under this lease")
    outbox.answer(Answers(outputs=[OutputAnswer(leased("c1", "old"), 0, fault)]))
    outbox.answer(Answers(outputs=[OutputAnswer(leased("c1"), 5)]))
    refused, stored = taken(outbox).output_acks
    assert (refused.lease_id, refused.offset, refused.reason.code) == ("old", 0, "stale_lease")
    assert (stored.lease_id, stored.offset, stored.HasField("reason")) == ("lease", 5, False)


def test_commands_that_are_cancelled_early_are_named() -> None:
    outbox = AgentOutbox()
    outbox.cancel_early("c1", "enough")
    assert outbox.deliver(claim("c0", "c1"), after_heartbeat=0) == [("c1", "enough")]
    assert outbox.deliver(claim("c2"), after_heartbeat=0) == []
