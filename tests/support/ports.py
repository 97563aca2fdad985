"""Ports for servers that tests start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A loopback TCP port that nobody listens on now. Prefer port 0 where the server can tell what it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
