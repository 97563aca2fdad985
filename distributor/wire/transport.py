"""gRPC options and constants that both ends of a connection must agree on.

A server closes connections that ping more often than it permits, so the client's interval must exceed the server's
minimum. The server honours only `grpc.http2.min_ping_interval_without_data_ms`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from distributor.wire.proxies import is_loopback_target

Options = list[tuple[str, int]]

DEFAULT_PORT: Final = 50051
ERROR_DOMAIN: Final = "command-distributor"
"""Marks our errors in status details, as opposed to those of proxies."""
ERROR_DETAILS_KEY: Final = "grpc-status-details-bin"
"""Trailing metadata key of gRPC status details."""
KEEPALIVE_INTERVAL_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
MIN_PING_INTERVAL_MS: Final = 10_000
FIRST_RECONNECT_MS: Final = 200
MAX_RECONNECT_MS: Final = 2_000
"""Callers find a server that was restarted this soon; gRPC's own limit is two minutes."""
MAX_CALLS_PER_CONNECTION: Final = 1_000
"""Further calls wait in the caller."""
MAX_PENDING_CALLS: Final = 20_000
"""Calls that wait until the server's loop takes them: as many as agents by default, which may all reconnect at once.

Above gRPC's own limit of 1,000 to 3,000, calls end as CANCELLED: 10,000 agents that retried at once never all got in.
"""
HANDSHAKE_TIMEOUT_MS: Final = 10_000
"""For a peer to finish the handshakes of TLS and HTTP/2. gRPC's own limit is two minutes."""
IDLE_TIMEOUT_MS: Final = 600_000
"""For a connection without calls. Pings do not count; gRPC itself would keep it for ever."""
MAX_METADATA_BYTES: Final = 16_384
"""Names and values of a call's metadata."""
_METADATA_OVERHEAD_BYTES: Final = 4_096
"""What HTTP/2 counts beyond names and values: 32 bytes a field, and fields of its own."""
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""Room for 20 commands or results of 256 KiB each."""


class ServerLimits(NamedTuple):
    """What a server accepts of its peers."""

    message_bytes: int = MAX_MESSAGE_BYTES
    metadata_bytes: int = MAX_METADATA_BYTES
    handshake_ms: int = HANDSHAKE_TIMEOUT_MS
    idle_ms: int = IDLE_TIMEOUT_MS


DEFAULT_LIMITS: Final = ServerLimits()


def channel_options(target: str = "") -> Options:
    """Return options for agents and callers, which detect a dead server within 40 s, also when idle.

    A loopback `target` bypasses the proxy set in the environment.
    """
    own_host = [("grpc.enable_http_proxy", 0)] if is_loopback_target(target) else []
    return [
        *own_host,
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
    ]


def server_options(limits: ServerLimits = DEFAULT_LIMITS, *, share_ports: bool = False) -> Options:
    """Return options for the server: detect dead peers, permit the peers' pings, never share the port silently.

    With `share_ports`, other processes of this user may listen on the same ports, and the kernel spreads connections.

    gRPC refuses calls at random above a first limit of metadata, 8 KiB unless set, and all above a second one; some
    reach handlers at megabytes. So the exact limit is enforced by the server, and gRPC's are above it.
    """
    metadata = limits.metadata_bytes + _METADATA_OVERHEAD_BYTES
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", int(share_ports)),
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
        ("grpc.max_concurrent_streams", MAX_CALLS_PER_CONNECTION),
        ("grpc.server_handshake_timeout_ms", limits.handshake_ms),
        ("grpc.max_connection_idle_ms", limits.idle_ms),
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", 2 * metadata),
    ]
