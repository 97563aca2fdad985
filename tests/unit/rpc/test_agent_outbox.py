"""What goes into the next message to an agent, and what waits."""

from __future__ import annotations

from distributor.dispatch.agent_reports import Answers, ResultAnswer
from distributor.dispatch.ports import Claim, ClaimedCommand, EndingOutcome
from distributor.model.command import Reason
from distributor.rpc.agent_outbox import AgentOutbox
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_pb2 import Command


def claim(*command_ids: str, lease_id: str = "lease", attempt: int = 1) -> Claim:
    commands = [
        ClaimedCommand(one, attempt, Command(command_id=one, type="PING").SerializeToString()) for one in command_ids
    ]
    return Claim("agent123", 1, lease_id, 1_000, False, commands)


def taken(outbox: AgentOutbox) -> pb.ConnectResponse:
    message, _ = outbox.take()
    assert message is not None
    return message


def test_nothing_to_send() -> None:
    assert AgentOutbox().take() == (None, [])


def test_everything_that_fits_travels_together() -> None:
    outbox = AgentOutbox()
    outbox.control().heartbeat_reply.sequence = 7
    outbox.control().drain.reconnect_after.seconds = 1
    outbox.cancel("c0", "enough")
    outbox.answer(Answers([ResultAnswer("c1", EndingOutcome.STORED)], [("c2", 100)]))
    outbox.deliver(claim("c3", "c4", attempt=2), after_heartbeat=6)
    message, sent = outbox.take()
    assert message is not None
    assert sent == ["c3", "c4"]
    assert message.heartbeat_reply.sequence == 7
    assert message.HasField("drain")
    assert (message.cancels[0].command_id, message.cancels[0].reason) == ("c0", "enough")
    assert message.result_acks[0].verdict == pb.RESULT_VERDICT_STORED
    assert (message.output_acks[0].command_id, message.output_acks[0].offset) == ("c2", 100)
    assert message.commands.after_heartbeat == 6
    assert [(one.command.command_id, one.attempt, one.lease_id) for one in message.commands.assignments] == [
        ("c3", 2, "lease"),
        ("c4", 2, "lease"),
    ]
    assert outbox.take() == (None, [])


def test_no_more_than_twenty_of_a_kind() -> None:
    outbox = AgentOutbox()
    ids = [f"c{n}" for n in range(45)]
    for command_id in ids:
        outbox.cancel(command_id, "")
    outbox.answer(Answers([ResultAnswer(one, EndingOutcome.STORED) for one in ids], [(one, 1) for one in ids]))
    outbox.deliver(claim(*(f"d{n}" for n in range(45))), 0)
    sizes = []
    while (message := outbox.take()[0]) is not None:
        sizes.append(
            [
                len(message.cancels),
                len(message.result_acks),
                len(message.output_acks),
                len(message.commands.assignments),
            ]
        )
    assert sizes == [[20] * 4, [20] * 4, [5] * 4]


def test_commands_of_two_leases_do_not_travel_together() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim("c1", lease_id="one"), 1)
    outbox.deliver(claim("c2", lease_id="two"), 2)
    assert [taken(outbox).commands.after_heartbeat for _ in range(2)] == [1, 2]


def test_a_later_acknowledgement_of_output_replaces_an_earlier_one() -> None:
    outbox = AgentOutbox()
    for offset in (10, 20, 30):
        outbox.answer(Answers([], [("c1", offset)]))
    assert [one.offset for one in taken(outbox).output_acks] == [30]


def test_a_cancel_never_overtakes_its_command() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim(*(f"c{n}" for n in range(25))), 0)
    outbox.cancel("c24", "enough")
    outbox.cancel("running", "enough")
    first, second, third = taken(outbox), taken(outbox), taken(outbox)
    assert [one.command_id for one in first.cancels] == ["running"]
    # Within a message cancels are read first, so not in this one either.
    assert (list(second.cancels), len(second.commands.assignments)) == ([], 5)
    assert [one.command_id for one in third.cancels] == ["c24"]


def test_what_was_never_sent_is_given_back_once() -> None:
    outbox = AgentOutbox()
    outbox.deliver(claim(*(f"c{n}" for n in range(21)), lease_id="one"), 0)
    outbox.deliver(claim("d", lease_id="two"), 0)
    outbox.take()
    assert outbox.unsent() == [("c20", "one"), ("d", "two")]
    assert outbox.unsent() == []
    assert outbox.take() == (None, [])


def test_a_rejected_result_says_why() -> None:
    outbox = AgentOutbox()
    answers = [
        ResultAnswer("c1", EndingOutcome.STALE, Reason("stale_lease", "given out again")),
        # Stored as a failure: the agent's own words were not.
        ResultAnswer("c2", EndingOutcome.STORED, Reason("result_too_large", "too large")),
        ResultAnswer("c3", EndingOutcome.LATE),
        ResultAnswer("c4", EndingOutcome.RUN_AGAIN),
    ]
    outbox.answer(Answers(answers, []))
    assert [(one.verdict, one.reason.code) for one in taken(outbox).result_acks] == [
        (pb.RESULT_VERDICT_REJECTED, "stale_lease"),
        (pb.RESULT_VERDICT_REJECTED, "result_too_large"),
        (pb.RESULT_VERDICT_LATE, ""),
        (pb.RESULT_VERDICT_STORED, ""),
    ]
