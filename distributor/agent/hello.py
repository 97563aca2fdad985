"""The Hello: how an agent introduces itself, and what it still has. Does no I/O."""

from __future__ import annotations

from distributor.agent.agent_profile import AgentProfile
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.v1 import agent_gateway_pb2 as gateway


def hello_of(profile: AgentProfile, record: CommandRecord) -> gateway.Hello:
    """Make the Hello: the profile, running commands, unacknowledged results, the halt, and the newest checkpoint.

    First forgets the commands that it must not list.
    """
    _drop_unwritten(record)
    mine = [held for held in record.held if not held.disowned]
    hello = gateway.Hello(
        agent_id=profile.agent_id,
        instance_id=profile.instance_id,
        journal_id=profile.journal_id,
        labels=profile.labels,
        capacity=profile.capacity,
        types=profile.types,
        running=[_listed(held) for held in mine if held.running],
        unacknowledged=[_listed(held) for held in mine if not held.running],
        agent_version=profile.agent_version,
        accepts_gzip=profile.accepts_gzip,
        checkpoint=record.checkpoints.newest,
    )
    hello.halts.stop_id = record.halt.current.stop_id if record.halt.current else ""
    hello.halts.SetInParent()
    if profile.orphan_after:
        hello.orphan_after.FromNanoseconds(int(profile.orphan_after * 1e9))
    return hello


def _drop_unwritten(record: CommandRecord) -> None:
    """Forget commands of an earlier stream that the journal does not have; the server delivers them again.

    A listed command counts as received, so a crash before its entry is written would make its outcome unknown.
    """
    for held in record.held:
        waits = held.pending_start is not None and not held.starting
        if waits and not record.is_written(held.command_id):
            record.drop(held.command_id)


def _listed(held: RecordedCommand) -> gateway.RunningCommand:
    return gateway.RunningCommand(command_id=held.command_id, lease_id=held.lease_id, output_offset=held.output_bytes)
