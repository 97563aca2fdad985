"""Commands: received, started, refused, delivered again, ended."""

from __future__ import annotations

from typing import Final

from distributor.conformance.messages import assignment
from distributor.conformance.scenario import scenario
from distributor.conformance.trial import COMPLETED, FAILED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

UNKNOWN_FIELD: Final = b"\xa2\x06\x03new"
"""Field 100, of length 3."""


@scenario("Commands")
async def run_a_command(trial: Trial) -> None:
    """A command is received, started and completed under its lease, its data as the handler returned it."""
    await trial.session()
    command = trial.command(echo={"text": "ü\u0000", "list": [1, 2.5, None, True], "empty": {}})
    result = await trial.run(command)
    trial.require(trial.parts("received", command) and trial.parts("started", command))
    trial.require(result.status == COMPLETED)
    trial.require(result.data == command.command.params.fields["echo"], f"data {result.data}")
    trial.started_once(command)


@scenario("Commands")
async def received_before_started(trial: Trial) -> None:
    """Received comes before or with Started, output and result, each once."""
    session = await trial.session()
    command = trial.command(output=10, seconds=0.1)
    await trial.run(command)
    places = {
        part: [
            place
            for place, m in enumerate(session.seen)
            for one in getattr(m, part)
            if one.lease_id == command.lease_id
        ]
        for part in ("received", "started", "output", "results")
    }
    trial.require([len(places[part]) for part in ("received", "started", "results")] == [1, 1, 1])
    first = [places[part][0] for part in ("received", "started", "output", "results") if places[part]]
    trial.require(first == sorted(first))


@scenario("Commands")
async def report_a_failure(trial: Trial) -> None:
    """A handler that fails ends its command as FAILED with the handler's code; only a passing failure is transient."""
    await trial.session()
    for kind in ("permanent", "transient"):
        result = await trial.run(trial.command(fail=kind))
        trial.require(result.status == FAILED)
        trial.require(result.reason.code == "conformance_failure", f"code {result.reason.code!r}")
        trial.require(result.transient == (kind == "transient"), f"transient {result.transient} for {kind}")


@scenario("Commands")
async def refuse_unknown_type(trial: Trial) -> None:
    """A command without a handler is refused as UNSUPPORTED."""
    await trial.session()
    command = trial.command("NO_SUCH_TYPE")
    await trial.give(command)
    trial.require((await trial.refused(command)).code == gateway.REFUSAL_CODE_UNSUPPORTED)
    await trial.settled()


@scenario("Commands")
async def same_assignment_twice(trial: Trial) -> None:
    """The same assignment again, while it runs, starts nothing and has one result."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.give(command)
    await trial.cancelled(command)
    await trial.quiet()
    trial.require(len(trial.parts("results", command)) == 1)
    trial.require(not trial.parts("refused", command))
    trial.started_once(command)


@scenario("Commands")
async def delivered_again_while_running(trial: Trial) -> None:
    """Under a new lease a running command is received and started again in word only; its result has that lease."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    again = trial.again(command)
    await trial.give(again)
    await trial.part("received", again)
    await trial.started(again)
    await trial.cancelled(again)
    trial.require(not trial.parts("results", command), expected="no result under the old lease")
    trial.started_once(command)


@scenario("Commands")
async def delivered_again_with_result(trial: Trial) -> None:
    """Under a new lease an unacknowledged result is sent again, after Received and Started."""
    session = await trial.session()
    session.ack_results = False
    command = trial.command(echo="kept")
    first = await trial.run(command)
    again = trial.again(command)
    await trial.give(again)
    second = await trial.result(again)
    trial.require(trial.parts("received", again) and trial.parts("started", again))
    trial.require((first.status, first.data) == (second.status, second.data))
    trial.started_once(command)


@scenario("A held command: event × state → action")
async def delivered_again_when_done(trial: Trial) -> None:
    """A command whose result was acknowledged does not start again: DUPLICATE, or its result if still known."""
    await trial.session()
    command = trial.command()
    await trial.run(command)
    await trial.settled()
    again = trial.again(command)
    await trial.give(again)
    await trial.until(lambda: trial.parts("refused", again) or trial.parts("results", again), "DUPLICATE or the result")
    for refused in trial.parts("refused", again):
        trial.require(refused.code == gateway.REFUSAL_CODE_DUPLICATE)
    await trial.quiet()
    trial.started_once(command)


@scenario("Commands")
async def run_again_after_transient_failure(trial: Trial) -> None:
    """After a transient failure was acknowledged as STORED, the same id runs again."""
    await trial.session()
    command = trial.command(fail="transient")
    await trial.run(command)
    await trial.settled()
    again = trial.again(command)
    del again.command.params.fields["fail"]
    trial.require((await trial.run(again)).status == COMPLETED)
    trial.require(trial.starts(command) in (None, 2), f"{trial.starts(command)} starts", "two starts")


@scenario("Messages")
async def unknown_fields(trial: Trial) -> None:
    """Fields that the agent does not know, in a message or a part, are ignored; so is an empty message."""
    session = await trial.session()
    await session.send(gateway.ConnectResponse())
    await session.send(gateway.ConnectResponse.FromString(UNKNOWN_FIELD))
    command = gateway.Assignment.FromString(trial.command().SerializeToString() + UNKNOWN_FIELD)
    message = gateway.ConnectResponse(commands=gateway.Commands(assignments=[command]))
    await session.send(gateway.ConnectResponse.FromString(message.SerializeToString() + UNKNOWN_FIELD))
    trial.require((await trial.result(command)).status == COMPLETED)


@scenario("Messages")
async def parts_in_order_of_number(trial: Trial) -> None:
    """Parts of a message take effect in order of field number: a cancel beside its command comes before it."""
    session = await trial.session()
    command = trial.command(seconds=0.2)
    cancel = gateway.Cancel(command_id=command.command.command_id, lease_id=command.lease_id)
    commands = gateway.Commands(assignments=[command])
    await session.send(gateway.ConnectResponse(cancels=[cancel], commands=commands))
    report = await trial.part("cancel_reports", command)
    trial.require(report.finding == gateway.CANCEL_FINDING_UNKNOWN)
    trial.require((await trial.result(command)).status == COMPLETED)


@scenario("Messages")
async def parts_about_nothing(trial: Trial) -> None:
    """Acknowledgements and replies that fit nothing are ignored, and so is a second Welcome."""
    session = await trial.session()
    foreign = trial.command()
    command_id, lease_id = foreign.command.command_id, foreign.lease_id
    message = gateway.ConnectResponse(
        heartbeat_reply=gateway.HeartbeatReply(sequence=0),
        result_acks=[gateway.ResultAck(command_id=command_id, lease_id=lease_id)],
        output_acks=[gateway.OutputAck(command_id=command_id, lease_id=lease_id, offset=1_000)],
    )
    await session.send(message)
    await trial.welcome()
    trial.require((await trial.run(trial.command())).status == COMPLETED)


@scenario("Messages")
async def malformed_messages(trial: Trial) -> None:
    """Nonsense, such as a command without an id or a broken gzip field, ends the stream at most, never the agent."""
    session = await trial.session()
    (running,) = trial.sleepers(1)
    await trial.give(running)
    await trial.started(running)
    await session.send(gateway.ConnectResponse(commands=gateway.Commands(assignments=[assignment("", "")])))
    await session.send(gateway.ConnectResponse(gzip=b"\x1f\x8bnot gzip"))
    command = trial.command("PING")
    await session.command(command, after_heartbeat=session.answered_heartbeat)
    await trial.current.until(lambda _: session.ended or trial.parts("results", command), "an answer, or a new stream")
    if session.ended:
        again = await trial.session()
        trial.require(again.hello.running, expected="the running command in the Hello")
        await trial.settled()
