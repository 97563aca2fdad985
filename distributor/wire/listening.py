"""Opens listening sockets, with errors that name the cause and the remedy."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from distributor.errors import ConfigurationError
from distributor.settings import split_address

_REMEDIES: Final = {
    errno.EADDRINUSE: "stop the program that uses it, or set another address",
    errno.EADDRNOTAVAIL: "this host does not have the address",
    errno.EACCES: "ports below 1024 need privileges",
}


def listening_socket(address: str, setting: str) -> socket.socket:
    """Return a socket that listens on `address`, "host:port".

    Raises ConfigurationError, which names the address and `setting`, if the address is unavailable.
    """
    with _reported(address, setting):
        listener = socket.create_server(split_address(address), family=_family(address))
    # Inherited by connections. asyncio sets it only on sockets that name their protocol: without it, the second of two
    # small writes waits for the peer's delayed acknowledgement, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def check_free(address: str, setting: str) -> None:
    """Raise ConfigurationError if `address` is unavailable. Binds without listening, so that no client can connect."""
    with _reported(address, setting), socket.socket(_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(split_address(address))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in split_address(address)[0] else socket.AF_INET


@contextmanager
def _reported(address: str, setting: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # create_server appends the address to the text.
        why = (error.strerror or str(error)).partition(" (while")[0]
        remedy = _REMEDIES.get(error.errno or 0, "set another address")
        raise ConfigurationError(
            f"cannot listen on {address} ({setting}): {why}; {remedy}",
            field=setting,
            reason="CANNOT_LISTEN",
            metadata={"address": address, "why": why},
        ) from error
