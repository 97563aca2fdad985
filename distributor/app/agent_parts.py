"""Assembles what serves agents: their gateway, emergency stops, and the certificates that they enrol for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distributor.app.issuing import agent_issuer
from distributor.app.lifespan import Loop
from distributor.app.packers import message_packer
from distributor.app.shared_parts import SharedParts
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.enrolment import Enrolments
from distributor.dispatch.halts import Halts
from distributor.dispatch.liveness import Liveness
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.reconciler import Reconciler
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.metrics import Compressed
from distributor.rpc.agent_gateway import AgentGateway, unacknowledged_output_bytes
from distributor.wire.at_rest_packer import AtRestPacker


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What serves agents. `loops` are its background loops by name."""

    gateway: AgentGateway
    holds: OutputHolds
    halts: Halts
    enrolments: Enrolments
    loops: Mapping[str, Loop]


def agent_parts(shared: SharedParts, retry: RetryPolicy, at_rest: AtRestPacker) -> AgentParts:
    """Assemble it. Raises ConfigurationError for an unusable `ca_key`."""
    stores, settings, audit = shared.stores, shared.settings, shared.audit
    holds = OutputHolds(
        shared.registry, settings.output_kept_bytes - unacknowledged_output_bytes(settings), settings.output_hold
    )
    halts = Halts(stores.stops, stores.commands, shared.registry, shared.wakeups, shared.relay.stops_changed)
    enrolments = Enrolments(stores.enrolment, shared.revocations, agent_issuer(settings))
    reports = AgentReports(stores.commands, stores.output_log, shared.wakeups, retry, settings.max_result_bytes, holds)
    gateway = AgentGateway(stores.commands, stores.sessions, reports, shared.registry, shared.wakeups, settings)
    gateway.hello_timeout_seconds = shared.timing.hello
    gateway.revocations, gateway.enrolments, gateway.halts = shared.revocations, enrolments, halts
    gateway.at_rest = at_rest
    gateway.packer = message_packer(
        settings, shared.metrics, Compressed.SENT_TO_AGENTS, Compressed.RECEIVED_FROM_AGENTS
    )
    if audit is not None:
        enrolments.audit = audit.recorder
        gateway.audit, gateway.witnesses = audit.recorder, audit.witnesses
        gateway.last_checkpoint = audit.last_checkpoint
    reconciler = Reconciler(stores.reader, shared.registry, shared.wakeups, shared.relay.missed)
    loops = {
        "emergency stops": halts.run,
        "reconciler": reconciler.run,
        "returned agents": reconciler.run_returned,
        "liveness": Liveness(shared.registry, settings.offline_after, shared.timing.liveness).run,
    }
    return AgentParts(gateway, holds, halts, enrolments, loops)
