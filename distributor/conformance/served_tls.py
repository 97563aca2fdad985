"""How a server is played over TLS: its certificate, and the token that it wants of the agent."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True, slots=True)
class ServedTls:
    """Certificate chain and key in PEM, and the token. `files` are for the agent, by placeholder: `{ca}`, `{token}`."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    token: str = field(repr=False)
    files: Mapping[str, str]

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials of the address."""
        return grpc.ssl_server_credentials([(self.key_pem, self.certificate_pem)])

    def refusal(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """The reason code with which a call without this token is refused; empty for one that has it."""
        sent = [value for name, value in metadata if name == "authorization"]
        if not sent:
            return "CREDENTIALS_REQUIRED"
        expected = f"Bearer {self.token}".encode()
        value = sent[0] if isinstance(sent[0], bytes) else sent[0].encode()
        return "" if len(sent) == 1 and hmac.compare_digest(value, expected) else "TOKEN_REFUSED"
