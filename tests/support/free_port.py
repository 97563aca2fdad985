"""Free ports for servers that tests start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def free_port() -> Iterator[int]:
    """A loopback TCP port that nobody listens on. Prefer port 0 where the server can tell what it got.

    It is kept meanwhile: by a socket that does not listen, so that callers are refused, and a server of ours may listen
    there, and do so again; nobody else is given it, nor has a connection that goes out from there.
    """
    with socket.socket() as supervisor:
        supervisor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        supervisor.bind(("127.0.0.1", 0))
        yield int(supervisor.getsockname()[1])
