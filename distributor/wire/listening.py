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


def held_port(address: str, setting: str) -> socket.socket:
    """Return a socket that holds `address`, "host:port", for this user's listeners with SO_REUSEPORT, and no others.

    It does not listen itself, so that it takes no connections from them. Port 0 takes a free one. Close the socket to
    free the address, once the listeners are closed. Raises ConfigurationError as `listening_socket`.
    """
    with _reported(address, setting):
        holder = socket.socket(_family(address))
        try:
            _hold(holder, split_address(address))
        except BaseException:
            holder.close()
            raise
    return holder


def _hold(holder: socket.socket, address: tuple[str, int]) -> None:
    if address[1] == 0:
        holder.bind(address)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return
    # Connections of a former server may linger (TIME_WAIT): only with SO_REUSEADDR may one bind beside them.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(address)
    # Of two that are bound like this, only one can listen. It keeps others out from then on, and need not go on.
    holder.listen(0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.shutdown(socket.SHUT_RDWR)


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
