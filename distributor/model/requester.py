"""Who asked for a command, as its record keeps it."""

from __future__ import annotations

from typing import NamedTuple


class Requester(NamedTuple):
    """Who queued a command.

    `kind` is `user`, `service` or `agent`, `subject` the name that its credential proves. `on_behalf_of` is the user
    for whom a service such as a bridge asked, empty if it asked for itself. `address` is where the call came from,
    without port.
    """

    kind: str
    subject: str
    on_behalf_of: str = ""
    address: str = ""
