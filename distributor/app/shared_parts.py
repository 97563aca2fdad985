"""Assembles what all other parts of a server share: events, attached agents, policy, revocations, the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from distributor.app.audit_parts import AuditParts, audit_parts
from distributor.app.lifespan import Loop
from distributor.app.server_stores import Stores
from distributor.app.timing import ServerTiming
from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.audited_changes import AuditedChanges
from distributor.dispatch.event_backlog import EventBacklog
from distributor.dispatch.event_relay import EventRelay
from distributor.dispatch.gauges import Gauges
from distributor.dispatch.revocations import Revocations
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.identity.policy_source import PolicySource
from distributor.model.audit_entry import AuditEntry, AuditEvent
from distributor.model.event import EventBatch
from distributor.observability.loop_lag import LoopLag
from distributor.observability.loop_watchdog import LoopWatchdog
from distributor.observability.metrics import Metrics
from distributor.settings import ServerSettings
from distributor.settings.policy_file import Policy


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What the parts of one server share. `audit` is None if no audit trail is kept."""

    stores: Stores
    settings: ServerSettings
    metrics: Metrics
    timing: ServerTiming
    wakeups: Wakeups
    registry: AgentRegistry
    watches: Watches
    relay: EventRelay
    gauges: Gauges
    revocations: Revocations
    policy: PolicySource
    audit: AuditParts | None

    @property
    def loops(self) -> Mapping[str, Loop]:
        """Their background loops by name."""
        behind = EventBacklog(self.stores.event_log.behind, self.metrics.events_behind, self.timing.gauges)
        return {
            "policy file": self.policy.run,
            "event relay": self.relay.run,
            "event backlog": behind.run,
            "revocations": self.revocations.run,
            "gauges": self.gauges.run,
            "loop lag": LoopLag(self.metrics).run,
            "loop watchdog": LoopWatchdog(self.settings.loop_stall_threshold).run,
            **(self.audit.loops if self.audit is not None else {}),
        }


def shared_parts(
    stores: Stores, settings: ServerSettings, metrics: Metrics, timing: ServerTiming, *, authenticated: bool
) -> SharedParts:
    """Assemble them. Raises ConfigurationError for an unusable policy file or key of the audit trail."""
    wakeups, registry = Wakeups(), AgentRegistry(metrics)
    watches = Watches(metrics, settings.max_watchers)
    relay = EventRelay(stores.event_log, stores.replica, registry, wakeups, watches, metrics)
    audit = audit_parts(stores.audit_log, settings, metrics, authenticated=authenticated)
    stores.functions.on_changes = _own_changes(relay, audit)
    policy = PolicySource(settings.policy_file)
    if audit is not None:
        policy.on_change = partial(_note_policy, audit)
    return SharedParts(
        stores,
        settings,
        metrics,
        timing,
        wakeups,
        registry,
        watches,
        relay,
        Gauges(stores.reader, stores.functions.check_writable, metrics, timing.gauges),
        Revocations(stores.revocations, timing.revocations),
        policy,
        audit,
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


def _note_policy(audit: AuditParts, policy: Policy) -> None:
    """Record that another policy file is in effect."""
    details = {"changed": "policy_file", "policy": policy.digest}
    audit.recorder.note(AuditEntry(AuditEvent.SETTINGS_CHANGED, details=details))
