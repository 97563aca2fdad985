"""Sockets that listen, and in one sentence why one cannot."""

from __future__ import annotations

import errno
import socket
from typing import Final

from distributor.errors import ConfigurationError
from distributor.settings import split_address

_REMEDIES: Final = {
    errno.EADDRINUSE: "stop what uses it, or set another address",
    errno.EADDRNOTAVAIL: "this host does not have the address",
    errno.EACCES: "ports below 1024 need privileges",
}


def listening_socket(address: str, setting: str) -> socket.socket:
    """A socket that listens on `address`, "host:port". Errors name it together with `setting`.

    Raises ConfigurationError where nobody can listen there.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
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
