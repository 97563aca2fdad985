"""Heartbeats, credit and control commands."""

from __future__ import annotations

from typing import Final

from distributor.conformance.message_text import texts
from distributor.conformance.scenario import scenario
from distributor.conformance.trial import COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

INTERVAL_SECONDS: Final = 1.0
"""A kit that is held up for three intervals is silent to the agent."""
BEATS: Final = 5
MANY: Final = 20


@scenario("Heartbeats and credit")
async def heartbeats_in_sequence(trial: Trial) -> None:
    """Heartbeats are numbered 1, 2, 3, … and come every heartbeat_interval."""
    session = await trial.session(heartbeat_interval=INTERVAL_SECONDS)
    await trial.until(lambda: sum(m.HasField("heartbeat") for m in session.seen) >= BEATS, f"{BEATS} heartbeats")
    beats = [
        (m.heartbeat.sequence, at) for m, at in zip(session.seen, session.times, strict=True) if m.HasField("heartbeat")
    ]
    numbers = [number for number, _ in beats]
    trial.require(numbers == list(range(1, len(numbers) + 1)), f"numbers {numbers}")
    # The first may come at once, so that a late Welcome makes nothing stale.
    mean = (beats[-1][1] - beats[1][1]) / (len(beats) - 2)
    trial.require(
        INTERVAL_SECONDS / 2 < mean < 3 * INTERVAL_SECONDS, f"{mean:.2f} s apart", f"{INTERVAL_SECONDS} s apart"
    )


@scenario("Heartbeats and credit")
async def sequence_starts_again(trial: Trial) -> None:
    """Heartbeats are numbered from 1 on each stream."""
    await trial.session(heartbeat_interval=INTERVAL_SECONDS)
    await trial.heartbeat(lambda beat: beat.sequence == 2, "heartbeat 2")
    await trial.dropped()
    await trial.welcome(heartbeat_interval=INTERVAL_SECONDS)
    beats = await trial.heartbeats()
    trial.require(beats[0].sequence == 1)


@scenario("Heartbeats and credit")
async def heartbeat_counts_commands(trial: Trial) -> None:
    """`running` counts the commands that run, `credit` the room beside them."""
    session = await trial.session(heartbeat_interval=INTERVAL_SECONDS)
    capacity = session.hello.capacity
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.heartbeat(
        lambda beat: (beat.running, beat.credit) == (1, capacity - 1), f"running 1, credit {capacity - 1}"
    )
    await trial.cancel(command)
    await trial.result(command)
    await trial.heartbeat(
        lambda beat: (beat.running, beat.credit) == (0, capacity), f"running 0, credit {capacity} after the end"
    )


@scenario("Heartbeats and credit")
async def probe(trial: Trial) -> None:
    """A Probe is answered with a heartbeat at once, not at the next interval: another instance claims the id."""
    session = await trial.session(heartbeat_interval=60.0, start_within=90.0)
    await trial.until(lambda: session.answered_heartbeat == 1, "a heartbeat after the Welcome")
    before = len(session.seen)
    await session.send(gateway.ConnectResponse(probe=gateway.Probe(peer="ipv4:192.0.2.1:5")))
    await trial.until(lambda: any(m.HasField("heartbeat") for m in session.seen[before:]), "a heartbeat at once")


@scenario("Commands")
async def busy_when_full(trial: Trial) -> None:
    """A command beyond the capacity is refused as BUSY."""
    session = await trial.session()
    running = trial.sleepers(session.hello.capacity)
    await trial.give(*running)
    await trial.started(*running)
    (another,) = trial.sleepers(1)
    await trial.give(another)
    refused = await trial.refused(another)
    trial.require(refused.code == gateway.REFUSAL_CODE_BUSY)
    trial.require(not trial.parts("started", another))


@scenario("Heartbeats and credit")
async def control_commands_when_full(trial: Trial) -> None:
    """A full agent still answers a PING, and does not count it."""
    session = await trial.session(heartbeat_interval=INTERVAL_SECONDS)
    running = trial.sleepers(session.hello.capacity)
    await trial.give(*running)
    await trial.started(*running)
    result = await trial.run(trial.command("PING"))
    trial.require(result.status == COMPLETED)
    beat = await trial.heartbeat(lambda _: True, "a heartbeat")
    trial.require((beat.running, beat.credit) == (session.hello.capacity, 0))


@scenario("Heartbeats and credit")
async def room_after_result(trial: Trial) -> None:
    """A result makes room for another command at once, before the next heartbeat."""
    session = await trial.session(heartbeat_interval=60.0, start_within=90.0)
    running = trial.sleepers(session.hello.capacity)
    await trial.give(*running)
    await trial.started(*running)
    await trial.cancel(running[0])
    await trial.result(running[0])
    another = trial.command()
    result = await trial.run(another)
    trial.require(result.status == COMPLETED)


@scenario("Commands")
async def twenty_commands_in_a_message(trial: Trial) -> None:
    """Of 20 commands in a message, each is received or refused as BUSY, as many as fit, in the order listed."""
    session = await trial.session()
    commands = [trial.command(seconds=0.2, echo=number) for number in range(MANY)]
    await trial.give(*commands)
    for command in commands:
        await _answered(trial, command)
    received = [part.command_id for message in session.seen for part in message.received]
    order = [command.command.command_id for command in commands]
    trial.require(len(received) >= min(session.hello.capacity, MANY), f"{len(received)} received")
    trial.require(received == [one for one in order if one in received], "another order")
    for command in commands:
        if command.command.command_id in received:
            await trial.result(command)
            trial.require(not trial.parts("refused", command))
        else:
            trial.require(trial.parts("refused", command)[0].code == gateway.REFUSAL_CODE_BUSY)


async def _answered(trial: Trial, command: gateway.Assignment) -> None:
    await trial.until(
        lambda: trial.parts("received", command) or trial.parts("refused", command), "received or refused"
    )


@scenario("Heartbeats and credit")
async def silent_server(trial: Trial) -> None:
    """The agent drops a stream without replies after three intervals, and lists on the next what it runs."""
    session = await trial.session(heartbeat_interval=INTERVAL_SECONDS)
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    session.answer_heartbeats = False
    await trial.attached()
    beats = [message for message in session.seen if message.HasField("heartbeat")]
    trial.require(len(beats) >= 2, texts(session.seen), "more than one heartbeat before the end")
    trial.held(command)
