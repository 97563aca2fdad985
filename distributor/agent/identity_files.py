"""The agent's key and certificate on its host, and what it learned when it enrolled.

credential.pem   the private key and the certificate chain; 0600, always replaced as a whole
server-ca.pem    certificates by which it recognises servers; may be missing
enrolment.json   addresses of servers and labels
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributor.errors import ConfigurationError
from distributor.private_file import PrivateFile, make_private_folder


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
        make_private_folder(self.folder)
        if server_ca_pem:
            PrivateFile(self.server_ca).replace(server_ca_pem)
        else:
            self.server_ca.unlink(missing_ok=True)
        PrivateFile(self._facts).replace(json.dumps(_plain(facts), indent=2).encode() + b"\n")
        self.replace_credential(key_pem, chain_pem)

    def replace_credential(self, key_pem: bytes, chain_pem: bytes) -> None:
        """Replace the key and the certificate together. The next connection uses them."""
        PrivateFile(self.credential).replace(key_pem + chain_pem)

    def replace_server_ca(self, server_ca_pem: bytes) -> None:
        """Trust servers by these certificates from now on."""
        PrivateFile(self.server_ca).replace(server_ca_pem)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _plain(facts: EnrolmentFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in EnrolmentFacts.__slots__} | {"labels": dict(facts.labels)}
