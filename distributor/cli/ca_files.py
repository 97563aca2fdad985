"""`distributor ca`: a CA in a folder, and the certificates that a small set-up needs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError
from distributor.identity.authority import Authority
from distributor.identity.certificates import SERVICE_NAME_PATTERN, Holder, PeerKind, PeerName
from distributor.identity.private_keys import new_key, private_pem
from distributor.private_file import NewFile, create_files

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_CA: Final = ("ca.pem", "ca-key.pem")


def make_ca(folder: Path, hosts: Sequence[str], days: int) -> str:
    """Make a CA, a server's certificate and a key for tokens; return the settings that use them (TOML).

    The certificate is also for loopback, where the operator's own commands find the server. Raises ConfigurationError.
    """
    authority = Authority.create(_now())
    hosts = list(dict.fromkeys([*hosts, *LOOPBACK]))
    server_key = new_key()
    server = authority.issue_server(hosts, server_key.public_key(), _now(), timedelta(days=days))
    contents = {
        "ca.pem": authority.certificate_pem,
        "ca-key.pem": authority.key_pem,
        "server.pem": server.pem,
        "server-key.pem": private_pem(server_key),
        "token-key": f"{secrets.token_hex(32)}\n".encode(),
    }
    _write_new(folder, contents)
    beyond = "127.0.0.1" if set(hosts) <= set(LOOPBACK) else "0.0.0.0"
    return f"""\
# A CA, a certificate for {", ".join(hosts)}, and a key that signs tokens are in {folder}.
# Whoever has ca-key.pem can be any agent, and whoever has token-key any user.
[server]
listen = "{beyond}:50051"
mtls_listen = "{beyond}:50052"
tls_cert = "{folder / "server.pem"}"
tls_key = "{folder / "server-key.pem"}"
client_ca = "{folder / "ca.pem"}"
ca_key = "{folder / "ca-key.pem"}"
token_key_file = "{folder / "token-key"}"

[client]
tls_ca = "{folder / "ca.pem"}"
"""


def issue_server(folder: Path, name: str, hosts: Sequence[str], days: int) -> str:
    """Issue a certificate for further servers; return where it is. Raises ConfigurationError."""
    key = new_key()
    issued = _authority(folder).issue_server(hosts or [name], key.public_key(), _now(), timedelta(days=days))
    return _written(folder, name, issued.pem, private_pem(key))


def issue_service(folder: Path, name: str, trust_domain: str, days: int) -> str:
    """Issue a certificate by which a service is known; return where it is. Raises ConfigurationError."""
    if not SERVICE_NAME_PATTERN.fullmatch(name):
        raise ConfigurationError("the name of a service must be 1 to 128 of A-Z a-z 0-9 . _ -", field="name")
    key = new_key()
    holder = Holder(PeerName(PeerKind.SERVICE, name))
    issued = _authority(folder).issue_peer(holder, trust_domain, key.public_key(), _now(), timedelta(days=days))
    return _written(folder, name, issued.pem, private_pem(key))


def _written(folder: Path, name: str, certificate: bytes, key: bytes) -> str:
    if "/" in name or name.startswith("."):
        raise ConfigurationError("the name must not have a slash or begin with a dot", field="name")
    _write_new(folder, {f"{name}.pem": certificate, f"{name}-key.pem": key})
    return f"wrote {folder / f'{name}.pem'} and {folder / f'{name}-key.pem'}"


def _authority(folder: Path) -> Authority:
    certificate, key = (_read(folder / name) for name in _CA)
    return Authority.from_pem(certificate, key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}; make a CA with distributor ca init", field="dir"
        ) from error


def _write_new(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files that only their owner can read; none if one of them exists."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}", field="dir") from error
    create_files(*(NewFile(folder / name, content) for name, content in contents.items()), field="dir")


def _now() -> datetime:
    return datetime.now(UTC)
