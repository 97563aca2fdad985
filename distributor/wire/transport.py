"""What both sides of every gRPC connection must agree on, above all its options, which only work as a pair.

A server closes connections whose pings come more often than it permits, so the client's interval must stay above
the server's minimum. Only `grpc.http2.min_ping_interval_without_data_ms` is honoured by the server.
"""

from __future__ import annotations

from typing import Final

from distributor.wire.proxies import is_loopback_target

Options = list[tuple[str, int]]

DEFAULT_PORT: Final = 50051
ERROR_DOMAIN: Final = "command-distributor"
"""Tells our errors from those of others on the way, in the details of a status."""
ERROR_DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata that gRPC keeps the details of a status in."""
KEEPALIVE_INTERVAL_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
MIN_PING_INTERVAL_MS: Final = 10_000
MAX_CALLS_OF_A_CONNECTION: Final = 1_000
"""What comes beyond waits in the caller."""
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""Room for 20 commands or results of 256 KiB each in one message."""


def cause_of(details: str) -> str:
    """The last of the chain of causes that grpc tells where it cannot connect: the one to act on."""
    cause = details.rpartition(": ")[2]
    # What was cut off may have opened the brackets.
    return cause if "[" in cause else cause.removesuffix("]")


def channel_options(target: str = "") -> Options:
    """Options for agents and callers: notice a dead server within 40 s, also while nothing is under way.

    A `target` on this host is reached without the proxy that the environment may name.
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
    ]


def server_options() -> Options:
    """Options for the server: notice a dead peer, permit the peer's pings, never share the port silently."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", MAX_CALLS_OF_A_CONNECTION),
    ]
