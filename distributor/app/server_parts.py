"""Assembles a server without starting it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from distributor.app.audit_parts import AuditParts, audit_parts
from distributor.app.issuing import agent_issuer
from distributor.app.lifespan import Loop
from distributor.app.server_endpoints import insecurities
from distributor.app.timing import ServerTiming
from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.audited_callers import AuditedCallers
from distributor.dispatch.audited_changes import AuditedChanges
from distributor.dispatch.caller_limits import CallerLimits
from distributor.dispatch.command_distributor import CommandDistributor
from distributor.dispatch.command_service import CommandService
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.credentials import Credentials
from distributor.dispatch.deadlines import Deadlines
from distributor.dispatch.emergency_stops import EmergencyStops
from distributor.dispatch.enrolment import Enrolments
from distributor.dispatch.event_backlog import EventBacklog
from distributor.dispatch.event_relay import EventRelay
from distributor.dispatch.gauges import Gauges
from distributor.dispatch.halts import Halts
from distributor.dispatch.index_check import IndexCheck
from distributor.dispatch.liveness import Liveness
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.reconciler import Reconciler
from distributor.dispatch.retention import Retention
from distributor.dispatch.retrying import Retrying
from distributor.dispatch.revocations import Revocations
from distributor.dispatch.type_places import TypePlaces
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.policy_source import PolicySource
from distributor.model.audit_entry import AuditEntry, AuditEvent
from distributor.model.command import CommandLimits
from distributor.model.event import EventBatch
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.loop_lag import LoopLag
from distributor.observability.loop_watchdog import LoopWatchdog
from distributor.observability.metrics import Compressed, Metrics
from distributor.rpc.agent_gateway import AgentGateway, unacknowledged_output_bytes
from distributor.rpc.audit_servicer import AuditServicer
from distributor.rpc.command_servicer import CommandServicer
from distributor.rpc.credential_servicer import CredentialServicer
from distributor.rpc.emergency_servicer import EmergencyServicer
from distributor.rpc.enrolment_servicer import EnrolmentServicer
from distributor.rpc.interceptors.admission import CallLimit
from distributor.rpc.interceptors.audit import AuditInterceptor, CallAudit
from distributor.rpc.interceptors.authentication import Authenticator, Doors
from distributor.rpc.interceptors.caller_limits import CallerLimitInterceptor
from distributor.rpc.interceptors.calls import CallInterceptor
from distributor.rpc.interceptors.compression import CompressionInterceptor
from distributor.rpc.interceptors.enrolment_attempts import EnrolmentAttemptInterceptor
from distributor.rpc.interceptors.lapse import CallGuard
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.rpc.queue_request import CommandDefaults, repeated_command
from distributor.rpc.server import GrpcServer
from distributor.settings import ServerSettings
from distributor.settings.policy_file import Policy
from distributor.store.audit_log import ValkeyAuditLog
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connections import StoreConnections
from distributor.store.durability import Durability
from distributor.store.enrolment_store import ValkeyEnrolmentStore
from distributor.store.event_log import ValkeyEventLog
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.index_checker import ValkeyIndexChecker
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.revocation_list import ValkeyRevocationStore
from distributor.store.session_store import ValkeySessionStore
from distributor.store.stop_store import ValkeyStopStore
from distributor.wire.at_rest_packer import AtRestObservers, AtRestPacker
from distributor.wire.compression import Compression
from distributor.wire.message_packer import MessagePacker
from distributor.wire.transport import ServerLimits

DEFAULT_TIMING: Final = ServerTiming()
IDEMPOTENCY_MS: Final = 86_400_000
SESSION_MS: Final = 604_800_000
"""Minimum time to remember an agent after its last message."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The Valkey stores of one replica."""

    replica: str
    functions: Functions
    exchanges: Exchanges
    commands: ValkeyCommandStore
    sessions: ValkeySessionStore
    stops: ValkeyStopStore
    output_log: ValkeyOutputLog
    reader: ValkeyCommandReader
    event_log: ValkeyEventLog
    index_checker: ValkeyIndexChecker
    audit_log: ValkeyAuditLog
    enrolment: ValkeyEnrolmentStore
    revocations: ValkeyRevocationStore


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts to start and stop. `loops` are the background loops by name; none of them returns."""

    registry: AgentRegistry
    watches: Watches
    relay: EventRelay
    distributor: CommandDistributor
    gauges: Gauges
    revocations: Revocations
    policy: PolicySource
    enrolment: EnrolmentServicer
    gateway: AgentGateway
    grpc: GrpcServer
    audit: AuditParts | None
    loops: Mapping[str, Loop]


def stores_on(
    connections: StoreConnections,
    settings: ServerSettings,
    replica: str,
    metrics: Metrics,
    durability: Durability | None = None,
) -> Stores:
    """The stores of a replica."""
    policy = store_policy(settings)
    functions = Functions(
        connections.functions, replica, policy, metrics.valkey_round_trip, metrics.valkey_failed, durability
    )
    functions.on_repair = lambda repair: metrics.store_repaired(repair.kind, 1)
    exchanges = Exchanges(functions)
    return Stores(
        replica,
        functions,
        exchanges,
        ValkeyCommandStore(functions, exchanges, policy),
        ValkeySessionStore(functions, exchanges, policy),
        ValkeyStopStore(connections.reads, functions, exchanges, policy.offline_after_ms),
        ValkeyOutputLog(connections.reads, functions, exchanges, policy),
        ValkeyCommandReader(connections.reads, functions, policy.offline_after_ms),
        ValkeyEventLog(connections.events, connections.reads, durability, replica),
        ValkeyIndexChecker(connections.reads, functions, replica, policy),
        ValkeyAuditLog(connections.reads, functions),
        ValkeyEnrolmentStore(functions, policy.offline_after_ms),
        ValkeyRevocationStore(functions),
    )


def server_parts(
    stores: Stores,
    settings: ServerSettings,
    metrics: Metrics,
    interceptors: Sequence[Interceptor] = (),
    timing: ServerTiming = DEFAULT_TIMING,
    authenticator: Authenticator | None = None,
) -> ServerParts:
    """Assemble a server over these stores.

    `interceptors` run outside our own. No `authenticator`: no authentication.
    """
    wakeups, registry = Wakeups(), AgentRegistry(metrics)
    retry = retry_policy(settings)
    watches = Watches(metrics, settings.max_watchers)
    gauges = Gauges(stores.reader, stores.functions.check_writable, metrics, timing.gauges)
    relay = EventRelay(stores.event_log, stores.replica, registry, wakeups, watches, metrics)
    audit = audit_parts(stores.audit_log, settings, metrics, authenticated=authenticator is not None)
    stores.functions.on_changes = _own_changes(relay, audit)
    distributor = CommandDistributor(
        stores.commands,
        registry,
        wakeups,
        metrics,
        polling_interval=settings.polling_interval,
        batch_size=settings.batch_size,
    )
    holds = OutputHolds(
        registry, settings.output_kept_bytes - unacknowledged_output_bytes(settings), settings.output_hold
    )
    reports = AgentReports(stores.commands, stores.output_log, wakeups, retry, settings.max_result_bytes, holds)
    gateway = AgentGateway(stores.commands, stores.sessions, reports, registry, wakeups, settings)
    gateway.hello_timeout_seconds = timing.hello
    if audit is not None:
        gateway.audit, gateway.witnesses = audit.recorder, audit.witnesses
        gateway.last_checkpoint = audit.last_checkpoint
    at_rest = _at_rest_packer(settings, metrics)
    gateway.at_rest = at_rest
    gateway.packer = _packer(settings, metrics, Compressed.SENT_TO_AGENTS, Compressed.RECEIVED_FROM_AGENTS)
    revocations = Revocations(stores.revocations, timing.revocations)
    enrolments = Enrolments(stores.enrolment, revocations, agent_issuer(settings))
    gateway.revocations, gateway.enrolments = revocations, enrolments
    if audit is not None:
        enrolments.audit = audit.recorder
    reconciler = Reconciler(stores.reader, registry, wakeups, relay.missed)
    halts = Halts(stores.stops, stores.commands, registry, wakeups, relay.stops_changed)
    gateway.halts = halts
    policy = PolicySource(settings.policy_file)
    if audit is not None:
        policy.on_change = partial(_note_policy, audit)
    loops: dict[str, Loop] = {
        "policy file": policy.run,
        "event relay": relay.run,
        "emergency stops": halts.run,
        "event backlog": EventBacklog(stores.event_log.behind, metrics.events_behind, timing.gauges).run,
        "command distributor": distributor.run,
        "deadlines": Deadlines(stores.commands, wakeups, retry, timing.deadlines, relay.alarm).run,
        "retention": Retention(stores.commands, settings.cleanup_interval).run,
        "index check": IndexCheck(stores.index_checker, metrics, settings.cleanup_interval).run,
        "reconciler": reconciler.run,
        "returned agents": reconciler.run_returned,
        "revocations": revocations.run,
        "liveness": Liveness(registry, settings.offline_after, timing.liveness).run,
        "gauges": gauges.run,
        "loop lag": LoopLag(metrics).run,
        "loop watchdog": LoopWatchdog(settings.loop_stall_threshold).run,
        **(audit.loops if audit is not None else {}),
    }
    limits = CommandLimits(
        settings.max_params_bytes, queue_limit=settings.queue_limit, caller_commands=settings.caller_commands
    )
    service = CommandService(stores.commands, stores.reader, distributor, limits, relay.alarm)
    service.places = TypePlaces(stores.reader, policy)
    watcher = CommandWatcher(stores.reader, stores.output_log, watches, holds)
    grpc = _grpc_server(settings, metrics, interceptors, _Admission(authenticator, audit, revocations))
    defaults = CommandDefaults(settings, at_rest, policy)
    retrying = Retrying(service, stores.reader, partial(repeated_command, defaults=defaults))
    emergency = EmergencyServicer(EmergencyStops(stores.stops, halts))
    reader = AuditServicer(None)
    if audit is not None:
        reader = AuditServicer(audit.reading, audit.last_checkpoint, audit.recorder)
    grpc.serve(gateway, CommandServicer(service, retrying, watcher, defaults), emergency, reader)
    credentials = Credentials(stores.enrolment, stores.revocations, revocations, enrolments)
    enrolment = EnrolmentServicer(enrolments)
    grpc.serve_credentials(enrolment, CredentialServicer(credentials))
    return ServerParts(
        registry, watches, relay, distributor, gauges, revocations, policy, enrolment, gateway, grpc, audit, loops
    )


def _note_policy(audit: AuditParts, policy: Policy) -> None:
    """Record that another policy file is in effect."""
    details = {"changed": "policy_file", "policy": policy.digest}
    audit.recorder.note(AuditEntry(AuditEvent.SETTINGS_CHANGED, details=details))


def retry_policy(settings: ServerSettings) -> RetryPolicy:
    """Return the delivery retry policy from the settings."""
    return RetryPolicy(
        settings.delivery_attempts, round(settings.retry_first * 1000), round(settings.retry_most * 1000)
    )


def _own_changes(relay: EventRelay, audit: AuditParts | None) -> Callable[[EventBatch], None]:
    """What to do with the changes that this replica makes."""
    if audit is None:
        return relay.relay_own
    changes = AuditedChanges(audit.recorder)

    def on_changes(batch: EventBatch) -> None:
        relay.relay_own(batch)
        changes.record(batch)

    return on_changes


class _Admission(NamedTuple):
    """What decides which calls are served, for how long, and records them."""

    authenticator: Authenticator | None
    audit: AuditParts | None
    revocations: Revocations


def _grpc_server(
    settings: ServerSettings,
    metrics: Metrics,
    more: Sequence[Interceptor],
    admission: _Admission,
) -> GrpcServer:
    authenticator, audit, guard = admission.authenticator, admission.audit, CallGuard(admission.revocations)
    doors = Doors(authenticator) if authenticator is not None else None
    packer = _packer(settings, metrics, Compressed.SENT_TO_CALLERS, Compressed.RECEIVED_FROM_CALLERS)
    limit = CallLimit(settings.max_calls)
    attempts = CredentialAttempts(settings.failed_credentials_rate, settings.failed_credentials_burst)
    inner: list[Interceptor] = [
        EnrolmentAttemptInterceptor(attempts),
        CompressionInterceptor(packer),
        CallerLimitInterceptor(CallerLimits(settings)),
    ]
    noted = CallAudit(AuditedCallers(audit.recorder)) if audit is not None else None
    calls = CallInterceptor(metrics, limit, doors, noted, settings.max_metadata_bytes, guard)
    ours: list[Interceptor] = [calls, *inner]
    if audit is not None:
        ours.append(AuditInterceptor(audit.recorder))
    accepted = ServerLimits(
        settings.max_message_bytes, settings.max_metadata_bytes, round(settings.handshake_timeout * 1000)
    )
    insecure = insecurities(settings, authenticated=authenticator is not None)
    return GrpcServer([*more, *ours], settings.reflection, insecure, accepted)


def _packer(settings: ServerSettings, metrics: Metrics, sent: Compressed, received: Compressed) -> MessagePacker:
    return MessagePacker(
        Compression(settings.compression == "gzip", settings.compression_threshold),
        partial(metrics.compressed, sent),
        partial(metrics.compressed, received),
        settings.max_message_bytes,
    )


def _at_rest_packer(settings: ServerSettings, metrics: Metrics) -> AtRestPacker:
    return AtRestPacker(
        Compression(settings.stored_compression == "gzip", settings.compression_threshold),
        AtRestObservers(
            partial(metrics.compressed, Compressed.STORED_COMMANDS),
            partial(metrics.compressed, Compressed.STORED_RESULTS),
            partial(metrics.compressed, Compressed.STORED_OUTPUT),
        ),
    )


def store_policy(settings: ServerSettings) -> StorePolicy:
    """Return the settings that the store functions apply."""

    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    retention_ms = ms(settings.result_retention)
    return StorePolicy(
        queue_limit=settings.queue_limit,
        # An idempotency key must not outlive its command.
        idempotency_ms=min(IDEMPOTENCY_MS, retention_ms),
        queue_full=settings.queue_full,
        caller_commands=settings.caller_commands,
        ageing_ms_per_priority=ms(settings.priority_ageing),
        offline_after_ms=ms(settings.offline_after),
        late_after_ms=ms(2 * settings.heartbeat_interval),
        # Keep an agent readable for as long as its commands.
        session_ttl_ms=max(SESSION_MS, retention_ms),
        retention_ms=retention_ms,
        ack_deadline_ms=ms(settings.ack_deadline),
        # The agent enforces the time limit: allow time to stop the command and report.
        run_limit_slack_ms=ms(settings.stop_grace + settings.heartbeat_interval),
        delivery_attempts=settings.delivery_attempts,
        events_kept=settings.events_kept,
        events_kept_ms=ms(settings.events_kept_for),
        output_kept_bytes=settings.output_kept_bytes,
    )
