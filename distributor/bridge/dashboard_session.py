"""Serves one dashboard connection: reader, sender, and the tasks that close or resync it."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from distributor.bridge import messages, requests
from distributor.bridge.audit_notes import NO_NOTES, AuditNotes
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.change_permission import ChangePermission
from distributor.bridge.command_calls import CommandCalls, PendingCalls
from distributor.bridge.credentials import Credential, CredentialCheck
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.event_hub import EventHub
from distributor.bridge.snapshot_sync import SnapshotSync
from distributor.bridge.store_view import StoreView
from distributor.bridge.user_limits import UNLIMITED, UserLimits
from distributor.dispatch.ports import OutputLog
from distributor.errors import (
    DistributorError,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from distributor.identity.permissions import MESSAGES, check_permitted
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS
from distributor.tasks import first_of

POLICY: Final = 1008
FAULT: Final = 1011
TRY_LATER: Final = 1013
TEXT_ONLY: Final = 1003

REVOCATION_CHECK_SECONDS: Final = 2.0

Ending: TypeAlias = requests.Interrupt | requests.Stop | requests.Resume
"""What must not wait behind commands to queue."""
Call: TypeAlias = requests.Queue | requests.Retry | Ending
"""What calls the server."""


class CloseConnection(Exception):
    """Closes the connection with a WebSocket close code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class PeerGone(Exception):
    """The dashboard disconnected."""


class Peer(Protocol):
    """The other end of a connection."""

    @property
    def address(self) -> str:
        """Where it connects from, without port."""

    @property
    def session_token(self) -> str:
        """The token of the session of the page that opened the connection; empty without one."""

    async def receive(self) -> str:
        """Receive the next message. Raises PeerGone, and CloseConnection if it is not text."""

    async def send(self, text: str) -> None:
        """Write a message; waits for buffer space. Raises PeerGone."""


class DashboardLimits(NamedTuple):
    """Limits of one dashboard: seconds to connect and with a full queue, first message bytes, queue size."""

    connect_seconds: float
    connect_bytes: int
    slow_close_seconds: float
    queue_messages: int
    queue_bytes: int


class SessionServices(NamedTuple):
    """Services shared by all sessions of a bridge."""

    hub: EventHub
    view: StoreView
    snapshots: SnapshotSync
    calls: CommandCalls
    credentials: CredentialCheck
    metrics: BridgeMetrics
    limits: DashboardLimits
    output: OutputLog
    notes: AuditNotes = NO_NOTES
    users: UserLimits = UNLIMITED


async def serve_dashboard(peer: Peer, services: SessionServices) -> None:
    """Serve one dashboard until it disconnects. Raises CloseConnection if the bridge must close the connection."""
    try:
        try:
            async with asyncio.timeout(services.limits.connect_seconds) as limit:
                with _limited(services, peer), services.users.stranger(peer.address):
                    connect, credential = await _authenticate(peer, services)
        except TimeoutError as error:
            if not limit.expired():
                raise
            seconds = services.limits.connect_seconds
            raise CloseConnection(POLICY, f"no dashboard:connect within {seconds:g} s") from error
        outbox = DashboardOutbox(services.limits.queue_messages, services.limits.queue_bytes)
        dashboard = Dashboard(secrets.token_hex(8), credential, outbox)
        with _limited(services, peer, credential.caller.subject), services.users.dashboard(credential.caller):
            await DashboardSession(peer, dashboard, services).run(connect)
    except PeerGone:
        return


@contextmanager
def _limited(services: SessionServices, peer: Peer, user: str = "") -> Iterator[None]:
    """Close a connection that exceeds a limit, with the code that says to return later."""
    try:
        yield
    except ResourceExhausted as error:
        services.notes.refused(error, "dashboard:connect", user, peer.address)
        raise CloseConnection(TRY_LATER, error.message) from error


async def _authenticate(peer: Peer, services: SessionServices) -> tuple[requests.Connect, Credential]:
    """Authenticate a dashboard by its dashboard:connect. Raises CloseConnection for anything else.

    Until the token is verified, only the type and token of one size-limited message are parsed.
    """
    text, max_bytes = await peer.receive(), services.limits.connect_bytes
    if len(text) > max_bytes or len(text.encode()) > max_bytes:
        raise CloseConnection(POLICY, f"the first message is over {max_bytes:,} bytes; subscribe once connected")
    try:
        fields = requests.fields_of(text)
        credential = services.credentials.of_token(_token_of(fields, peer), peer.address)
        check_permitted(credential.caller, MESSAGES["dashboard:connect"], "dashboard:connect")
        requests.check_values(fields, text)
        request = requests.parse(fields)
    except Unavailable as error:
        raise CloseConnection(TRY_LATER, error.message) from error
    except ResourceExhausted:
        raise
    except DistributorError as error:
        services.notes.refused(error, "dashboard:connect", address=peer.address)
        raise CloseConnection(POLICY, error.message) from error
    assert isinstance(request, requests.Connect)
    return request, credential


def _token_of(fields: Mapping[str, Any], peer: Peer) -> str:
    """The token of a first message, or of the session of the page that opened the connection."""
    token = requests.token_of(fields) or peer.session_token
    if not token:
        raise InvalidArgument("token is required", field="token", reason="MISSING_FIELD")
    return token


class DashboardSession:
    """Drives one connected dashboard. Lives as long as `run`."""

    def __init__(self, peer: Peer, dashboard: Dashboard, services: SessionServices) -> None:
        self._peer = peer
        self._dashboard = dashboard
        self._services = services
        self._snapshots = services.snapshots
        self._permission = ChangePermission(services.view)
        self._calls = services.calls
        # Snapshots and reads run one at a time.
        self._turn = asyncio.Lock()
        # Calls to the server have their own queues and do not block other requests.
        self._to_queue: PendingCalls[requests.Queue | requests.Retry] = PendingCalls()
        self._to_interrupt: PendingCalls[Ending] = PendingCalls()

    async def run(self, connect: requests.Connect) -> None:
        """Serve until the connection ends. Raises PeerGone or CloseConnection."""
        async with (
            self._registered(),
            self._services.calls.of_user(lambda: self._dashboard.credential.token, self._peer.address) as self._calls,
        ):
            # Each of these returns only by raising.
            await first_of(
                self._send_all(),
                self._close_if_slow(),
                self._close_on_overrun(),
                self._close_unless_accepted(),
                self._receive_all(connect),
                self._queue_all(),
                self._interrupt_all(),
                self._resync_when_needed(),
            )

    @asynccontextmanager
    async def _registered(self) -> AsyncIterator[None]:
        hub, metrics = self._services.hub, self._services.metrics
        hub.dashboards.add(self._dashboard)
        metrics.dashboards(len(hub.dashboards))
        notes, reason = self._services.notes, ""
        self._dashboard.on_read = lambda kind, command_id: notes.read(kind, self._dashboard.caller, command_id)
        notes.connected(self._dashboard.caller, "dashboard:connect")
        try:
            yield
        except CloseConnection as closing:
            reason = f"CLOSED_{closing.code}"
            raise
        finally:
            notes.disconnected(self._dashboard.caller, reason)
            hub.dashboards.discard(self._dashboard)
            self._snapshots.drop(self._dashboard)
            metrics.dashboards(len(hub.dashboards))
            metrics.output_cut(self._dashboard.outbox.cut_bytes)

    # The sender

    async def _send_all(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            entry = await self._dashboard.next_entry()
            await self._peer.send(self._dashboard.text_of(entry))
            self._services.metrics.sent(now() - entry.queued_at)

    async def _close_if_slow(self) -> None:
        """Close a connection whose queue stays full. Polling is cheaper than a timeout per message."""
        now, seconds = asyncio.get_running_loop().time, self._services.limits.slow_close_seconds
        while True:
            await asyncio.sleep(seconds / 4)
            since = self._dashboard.full_since
            if since is not None and now() - since >= seconds:
                raise CloseConnection(TRY_LATER, f"the queue has been full for {seconds:g} s")

    async def _close_on_overrun(self) -> None:
        await self._dashboard.overrun.wait()
        raise CloseConnection(TRY_LATER, "the queue exceeds its hard limit")

    async def _close_unless_accepted(self) -> None:
        """Close the connection once its token has expired or is revoked."""
        while True:
            caller = self._dashboard.credential.caller
            remaining = math.inf
            if caller.expires is not None:
                remaining = caller.expires + self._services.credentials.leeway_seconds - time.time()
            if remaining <= 0:
                raise CloseConnection(POLICY, "the token has expired")
            if lapse := self._services.credentials.lapse_of(caller):
                raise CloseConnection(POLICY, lapse)
            await asyncio.sleep(min(remaining, REVOCATION_CHECK_SECONDS))

    # The reader

    async def _receive_all(self, connect: requests.Connect) -> None:
        try:
            async with self._turn:
                await self._snapshots.connect(self._dashboard, connect)
        except DistributorError as error:
            raise CloseConnection(TRY_LATER, error.message) from error
        while True:
            text = await self._peer.receive()
            await self._dashboard.wait_for_room()
            await self._answer(text)

    async def _answer(self, text: str) -> None:
        request_id = type_ = ""
        try:
            fields = self._fields_of(text)
            type_ = requests.type_of(fields)
            request_id = requests.request_id_of(fields)
            self._services.users.check_message(self._dashboard.caller, type_)
            check_permitted(self._dashboard.credential.caller, requests.need_of(fields), type_)
            requests.check_values(fields, text)
            request = requests.parse(fields)
            if isinstance(request, Call):
                self._enqueue_call(request, len(text.encode()))
                return
            async with self._turn:
                await self._serve(request)
        except DistributorError as error:
            self._note_refusal(error, type_)
            self._dashboard.send(messages.error(error, request_id))

    def _fields_of(self, text: str) -> Mapping[str, Any]:
        try:
            return requests.fields_of(text)
        except DistributorError:
            # What cannot be read counts as well.
            self._services.users.check_message(self._dashboard.caller)
            raise

    def _note_refusal(self, error: DistributorError, type_: str) -> None:
        """Note a refusal by this bridge. The server records its own."""
        caller = self._dashboard.caller
        method = type_ if type_ in MESSAGES else ""
        self._services.notes.refused(error, method, caller.subject, caller.address)

    async def _check_change(self, request: requests.Queue | requests.Retry | requests.Interrupt, type_: str) -> None:
        try:
            await self._permission.check(self._dashboard.caller, request)
            if not isinstance(request, requests.Interrupt):
                self._snapshots.check_subscription_limit(self._dashboard)
        except DistributorError as error:
            self._note_refusal(error, type_)
            raise

    async def _serve(
        self, request: requests.Ping | requests.Subscribe | requests.Unsubscribe | requests.Connect | requests.Renew
    ) -> None:
        match request:
            case requests.Ping():
                position = self._dashboard.resume_position(self._services.hub.delivered_until)
                self._dashboard.send(messages.pong(int(time.time() * 1000), position, request.request_id))
            case requests.Subscribe():
                await self._snapshots.subscribe(self._dashboard, request.what)
            case requests.Unsubscribe():
                self._snapshots.unsubscribe(self._dashboard, request.what)
            case requests.Renew():
                self._renew(request)
            case requests.Connect():
                raise FailedPrecondition(
                    "the connection is already established", reason="ALREADY_CONNECTED", field="type"
                )

    def _renew(self, request: requests.Renew) -> None:
        """Continue with a new token of the same caller. Raises Unauthenticated and PermissionDenied."""
        before = self._dashboard.caller
        credential = self._services.credentials.of_token(request.token, self._peer.address)
        caller = credential.caller
        check_permitted(caller, MESSAGES["dashboard:renew"], "dashboard:renew")
        if (caller.kind, caller.subject, caller.grants) != (before.kind, before.subject, before.grants):
            raise PermissionDenied(
                "the new token is of another caller or has other grants; open a new connection with it",
                field="token",
                reason="OTHER_CALLER",
            )
        self._dashboard.credential = credential
        expires_ms = int(caller.expires * 1000) if caller.expires is not None else None
        self._dashboard.send(messages.renewed(expires_ms, request.request_id))

    # Calls to the server, in order, concurrent with other requests

    def _enqueue_call(self, request: Call, size: int) -> None:
        if isinstance(request, Ending):
            self._to_interrupt.put(request, size)
        else:
            self._to_queue.put(request, size)

    async def _queue_all(self) -> None:
        while True:
            request = await self._to_queue.get()
            with self._reporting_errors(request.request_id):
                retries = isinstance(request, requests.Retry)
                await self._check_change(request, "command:retry" if retries else "command:request")
                await (self._retry(request) if isinstance(request, requests.Retry) else self._queue(request))

    async def _queue(self, request: requests.Queue) -> None:
        queued = await self._calls.queue(request)
        command_id = queued.command_id
        self._dashboard.send(
            messages.command_accepted(command_id, request.command.agent_id, queued.already_queued, request.request_id)
        )
        await self._follow(command_id)

    async def _retry(self, request: requests.Retry) -> None:
        new_command_id = await self._calls.retry(request)
        self._dashboard.send(messages.command_retried(request.command_id, new_command_id, request.request_id))
        await self._follow(new_command_id)

    async def _follow(self, command_id: str) -> None:
        async with self._turn:
            await self._snapshots.follow_queued(self._dashboard, command_id)

    async def _interrupt_all(self) -> None:
        while True:
            request = await self._to_interrupt.get()
            with self._reporting_errors(request.request_id):
                if isinstance(request, requests.Stop):
                    await self._calls.stop(request)
                    continue
                if isinstance(request, requests.Resume):
                    await self._calls.resume(request)
                    continue
                await self._check_change(request, "command:interrupt")
                # Read first: a command that ends is unsubscribed.
                named = self._snapshots.is_subscribed_by_id(self._dashboard, request.command_id)
                await self._calls.cancel(request)
                if not named:
                    async with self._turn:
                        await self._snapshots.send_unless_subscribed(self._dashboard, request.command_id)

    @contextmanager
    def _reporting_errors(self, request_id: str) -> Iterator[None]:
        try:
            yield
        except DistributorError as error:
            self._dashboard.send(messages.error(error, request_id))

    # Resync

    async def _resync_when_needed(self) -> None:
        while True:
            await self._dashboard.resync_needed.wait()
            self._dashboard.resync_needed.clear()
            try:
                async with self._turn:
                    await self._snapshots.resync(self._dashboard, self._dashboard.resync_reason)
            except DistributorError:
                # The store is unavailable: retry later.
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)
                self._dashboard.resync_needed.set()
