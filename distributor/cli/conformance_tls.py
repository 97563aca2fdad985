"""The certificates and the token with which `distributor conformance` plays a server over TLS."""

from __future__ import annotations

import secrets
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from distributor.conformance.served_tls import ServedTls
from distributor.errors import ConfigurationError
from distributor.identity.authority import Authority
from distributor.identity.private_keys import new_key, private_pem
from distributor.private_file import PrivateFile

CA_FILE: Final = "conformance-ca.pem"
TOKEN_FILE: Final = "conformance.token"
_LIFETIME: Final = timedelta(days=1)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def served_tls(folder: Path, host: str) -> ServedTls:
    """Make a CA for one run and a token; write the CA's certificate and the token into a folder.

    The server's certificate is for `host`, loopback and this host's name. Raises ConfigurationError.
    """
    now = datetime.now(UTC)
    authority, key, token = Authority.create(now, _LIFETIME), new_key(), secrets.token_urlsafe(32)
    hosts = list(dict.fromkeys([host, *_LOOPBACK, socket.gethostname()]))
    issued = authority.issue_server(hosts, key.public_key(), now, _LIFETIME)
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {folder}: {error.strerror}", field="--tls") from error
    PrivateFile(folder / CA_FILE, field="--tls").replace(authority.certificate_pem)
    PrivateFile(folder / TOKEN_FILE, field="--tls").replace(f"{token}\n".encode())
    files = {"{ca}": str(folder / CA_FILE), "{token}": str(folder / TOKEN_FILE)}
    return ServedTls(issued.pem, private_pem(key), token, files)
