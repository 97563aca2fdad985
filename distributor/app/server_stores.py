"""The Valkey stores of one server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from distributor.observability.metrics import Metrics
from distributor.settings import ServerSettings
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


def stores_on(
    connections: StoreConnections,
    settings: ServerSettings,
    replica: str,
    metrics: Metrics,
    durability: Durability | None = None,
) -> Stores:
    """The stores of a replica."""
    policy = store_policy(settings)
    functions = Functions(connections.functions, replica, policy, durability)
    functions.observe, functions.on_failure = metrics.valkey_round_trip, metrics.valkey_failed
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
