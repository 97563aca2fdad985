"""Assembles a bridge without starting it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from distributor.app.bridge_tls import bridge_certificates, insecurities, watched_certificates
from distributor.app.certificate_watch import CertificateWatch
from distributor.app.lifespan import Loop
from distributor.app.token_keys import TokenKeys
from distributor.app.valkey_address import valkey_address
from distributor.bridge.agent_watch import AgentWatch, AgentWatchTimes
from distributor.bridge.app import Admission, MintedToken, bridge_app
from distributor.bridge.audit_notes import AuditNotes
from distributor.bridge.backend_status import ServerCheck
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.credentials import CredentialCheck
from distributor.bridge.dashboard_session import DashboardLimits, SessionServices
from distributor.bridge.emergency_watch import EmergencyWatch
from distributor.bridge.event_hub import EventHub, EventSource
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.server import WebSocketLimits, bridge_endpoint
from distributor.bridge.snapshot_sync import SnapshotSync
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.bridge.user_limits import UserLimits
from distributor.client import ClientCredentials, ClientOptions, CommandClient
from distributor.dispatch.event_backlog import EventBacklog
from distributor.dispatch.revocations import Revocations
from distributor.errors import ConfigurationError
from distributor.identity.caller import CallerKind
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.roles import Role
from distributor.identity.tokens import NewToken, Revoked, TokenVerifier, mint
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.http import HttpEndpoint
from distributor.observability.http_protocol import HttpLimits
from distributor.observability.loop_watchdog import LoopWatchdog
from distributor.settings import BridgeSettings
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.connections import StoreConnections
from distributor.store.event_log import ValkeyEventHistory, ValkeyEventLog
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.revocation_list import ValkeyRevocationStore
from distributor.store.stop_store import ValkeyStopStore

CALLS: Final = ClientOptions(call_timeout_seconds=5.0, calls=RetryPolicy(attempts=2, first_ms=100, max_ms=500))
DEV_SUBJECT: Final = "developer"
DEV_TOKEN_SECONDS: Final = 12 * 3_600


@dataclass(frozen=True, slots=True)
class BridgeParts:
    """The parts to start and stop. `loops` are the background loops by name; none of them returns."""

    connections: StoreConnections
    client: CommandClient
    keys: TokenKeys
    revocations: Revocations
    hub: EventHub
    pumps: OutputPumps
    notes: AuditNotes
    endpoint: HttpEndpoint
    loops: Mapping[str, Loop]


def bridge_parts(settings: BridgeSettings, metrics: BridgeMetrics, *, dev: bool) -> BridgeParts:
    """Assemble a bridge. With `dev`, it gives a token to any page opened on this machine.

    Raises ConfigurationError for unusable keys or a missing `valkey_url`.
    """
    if not settings.verifies_tokens:
        raise ConfigurationError(
            "no key to verify tokens: set token_key, token_key_file, public_keys or jwks_url", field="token_key"
        )
    # Keys first: they are read from files, and need no Valkey to be found wrong.
    revoked = Revoked(
        lambda token_id: revocations.is_revoked(token_id),
        service=lambda name, issued: revocations.list.is_service_revoked(name, issued),
    )
    keys = TokenKeys(settings, revoked)
    connections = StoreConnections.to(_valkey_url(settings))
    functions = Functions(connections.functions)
    revocations = Revocations(ValkeyRevocationStore(functions))
    reader = ValkeyCommandReader(connections.reads, functions, round(settings.offline_after * 1000))
    view = StoreView(reader)
    exchanges, policy = Exchanges(functions), StorePolicy()
    output = ValkeyOutputLog(connections.reads, functions, exchanges, policy)
    stops = ValkeyStopStore(connections.reads, functions, exchanges, policy.offline_after_ms)
    pumps = OutputPumps(output)
    agents = AgentWatch(view, Subscriptions(), AgentWatchTimes(sweep=settings.agent_sweep))
    log = ValkeyEventLog(connections.events, connections.reads)
    events = EventSource(log, ValkeyEventHistory(connections.reads))
    hub = EventHub(events, view, pumps, agents, metrics)
    hub.backends.own_insecure = insecurities(settings)
    client = CommandClient(settings.server, replace(CALLS, credentials=ClientCredentials.of_bridge(settings)))
    notes = _audit_notes(settings, client)
    check = ServerCheck(client, hub.backends, settings.server_check_interval)
    limits = DashboardLimits(
        settings.connect_timeout,
        settings.max_connect_bytes,
        settings.slow_close,
        settings.queue_messages,
        settings.queue_bytes,
    )
    credentials = CredentialCheck(
        keys.verifier,
        settings.allowed_origins,
        CredentialAttempts(settings.failed_credentials_rate, settings.failed_credentials_burst),
    )
    snapshots = SnapshotSync(hub, view, pumps, agents, metrics)
    users = UserLimits(settings)
    app = bridge_app(
        SessionServices(
            hub,
            view,
            snapshots,
            CommandCalls(client),
            credentials,
            metrics,
            limits,
            output,
            notes,
            users,
        ),
        Admission(settings.allowed_origins, settings.max_connections),
        {"valkey": lambda: hub.backends.valkey.fault, "server": lambda: hub.backends.server.fault},
        _dev_tokens(keys.verifier) if dev else None,
    )
    certificates = bridge_certificates(settings)
    watched = watched_certificates(settings, certificates)
    return BridgeParts(
        connections,
        client,
        keys,
        revocations,
        hub,
        pumps,
        notes,
        bridge_endpoint(
            settings.listen,
            app,
            WebSocketLimits(
                settings.ping_interval,
                settings.max_message_bytes,
                settings.close_timeout,
                HttpLimits(settings.http_request_timeout, settings.max_http_body_bytes),
            ),
            certificates,
        ),
        {
            "event hub": hub.run,
            "emergency stops": EmergencyWatch(hub, stops.stops).run,
            "event backlog": EventBacklog(log.behind, metrics.events_behind).run,
            "agent watch": agents.run,
            "server check": check.run,
            "audit notes": notes.run,
            "token keys": keys.run,
            "revocations": revocations.run,
            "certificate expiry": CertificateWatch(watched, metrics.registry).run,
            "loop watchdog": LoopWatchdog(settings.loop_stall_threshold).run,
        },
    )


def _audit_notes(settings: BridgeSettings, client: CommandClient) -> AuditNotes:
    """Reports to the server if this bridge has a credential: without authentication, there is no trail to report to."""
    own = ClientCredentials.of_bridge(settings)
    known = bool(own.token or own.token_file or own.certificate)
    return AuditNotes((lambda events, lost: client.audit().record(events, lost)) if known else None)


def _valkey_url(settings: BridgeSettings) -> str:
    if not settings.valkey_url:
        raise ConfigurationError(
            "a bridge reads from the Valkey of its server: set valkey_url in [bridge], or "
            "DISTRIBUTOR_BRIDGE_VALKEY_URL, or --valkey-url",
            field="valkey_url",
        )
    return valkey_address(settings)


def _dev_tokens(verifier: TokenVerifier) -> Callable[[], MintedToken]:
    def minted() -> MintedToken:
        key, now = verifier.keys.signing, int(time.time())
        if key is None:
            raise ConfigurationError("dev needs a token_key to sign tokens with", field="token_key")
        new = NewToken(CallerKind.USER, DEV_SUBJECT, now, now + DEV_TOKEN_SECONDS, [Role.ADMIN])
        return MintedToken(mint(key, verifier.rules, new), new.expires)

    return minted
