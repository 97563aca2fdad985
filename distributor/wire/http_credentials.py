"""What an HTTP request shows of its caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

PEER_CERTIFICATE: Final = "peer_certificate"
"""The key in the state of an ASGI request under which the certificate of its peer is, in PEM."""
_IN_TRANSPORT: Final = "x509_pem_cert"
"""As gRPC names the certificate of a peer."""


class HttpCredentials(NamedTuple):
    """The value of the `Authorization` header, empty without; the verified client certificate in PEM, None without.

    `address` is where the request comes from, without port.
    """

    authorization: str = ""
    certificate: bytes | None = None
    address: str = ""

    def metadata(self) -> list[tuple[str, str]]:
        """The credentials as a gRPC call would send them."""
        return [("authorization", self.authorization)] if self.authorization else []

    def transport(self) -> Mapping[str, Iterable[bytes]]:
        """The properties that a gRPC transport would have."""
        return {} if self.certificate is None else {_IN_TRANSPORT: [self.certificate]}
