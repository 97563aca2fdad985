"""The agent's key and certificate on its host, and what it learned when it enrolled.

credential.pem   the private key and the certificate chain; 0600, always replaced as a whole
server-ca.pem    certificates by which it recognises servers; may be missing
enrolment.json   addresses of servers and labels
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from distributor.errors import ConfigurationError

PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


@dataclass(frozen=True, slots=True)
class EnrolmentFacts:
    """What an agent learned when it enrolled.

    `servers` are for agents with a certificate, and `enrolled_at` is where it enrolled and renews an expired
    certificate; both as `host:port`, separated by commas. `labels` come from the enrolment token.
    """

    agent_id: str
    servers: str
    enrolled_at: str
    trust_domain: str
    labels: Mapping[str, str] = field(default_factory=dict)


class IdentityFiles:
    """The files of one agent in a folder that only the agent's user can read. Raises ConfigurationError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.credential = folder / "credential.pem"
        self.server_ca = folder / "server-ca.pem"
        self._facts = folder / "enrolment.json"

    @property
    def exists(self) -> bool:
        """Whether an agent has enrolled here."""
        return self.credential.is_file() and self._facts.is_file()

    @property
    def trusted(self) -> Path | None:
        """The file with certificates by which to recognise servers; None for those that the host trusts."""
        return self.server_ca if self.server_ca.is_file() else None

    def facts(self) -> EnrolmentFacts:
        """What the agent learned when it enrolled."""
        try:
            return EnrolmentFacts(**json.loads(self._read(self._facts)))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{self._facts} is damaged; enrol the agent again") from error

    def credential_pem(self) -> bytes:
        """The private key and the certificate chain."""
        return self._read(self.credential)

    def create(self, key_pem: bytes, chain_pem: bytes, server_ca_pem: bytes, facts: EnrolmentFacts) -> None:
        """Write all files, the credential last: without it, the agent has not enrolled."""
        try:
            self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            self.folder.chmod(PRIVATE_FOLDER)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if server_ca_pem:
            write_atomically(self.server_ca, server_ca_pem)
        else:
            self.server_ca.unlink(missing_ok=True)
        write_atomically(self._facts, json.dumps(_plain(facts), indent=2).encode() + b"\n")
        self.replace_credential(key_pem, chain_pem)

    def replace_credential(self, key_pem: bytes, chain_pem: bytes) -> None:
        """Replace the key and the certificate together. The next connection uses them."""
        write_atomically(self.credential, key_pem + chain_pem)

    def replace_server_ca(self, server_ca_pem: bytes) -> None:
        """Trust these servers from now on."""
        write_atomically(self.server_ca, server_ca_pem)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, durably, and as a whole or not at all. Raises ConfigurationError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(facts: EnrolmentFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in EnrolmentFacts.__slots__} | {"labels": dict(facts.labels)}


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot write {path}: {error.strerror}")
