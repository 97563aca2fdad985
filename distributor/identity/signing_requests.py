"""Certificate signing requests (PKCS 10), which prove possession of a key. The authority uses nothing else of them."""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.errors import InvalidArgument
from distributor.identity.unreadable import UNREADABLE

PublicKey: TypeAlias = ec.EllipticCurvePublicKey

MAX_REQUEST_BYTES: Final = 16_384


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Make a request in PEM. It has no names: the authority decides whom a certificate identifies."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def requested_key(request_pem: bytes, field: str = "certificate_request") -> PublicKey:
    """Return the public key of a request (PEM) that is signed with the private key. Ignores all names in it.

    Raises InvalidArgument.
    """
    if len(request_pem) > MAX_REQUEST_BYTES:
        raise _invalid(field, f"must have at most {MAX_REQUEST_BYTES:,} bytes, not {len(request_pem):,}")
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        proved = request.is_signature_valid
    except UNREADABLE as error:
        raise _invalid(field, "must be a certificate signing request (PKCS 10) in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise _invalid(field, "must have an ECDSA key on the curve P-256")
    if not proved:
        raise _invalid(field, "must be signed with its own key")
    return key


def _invalid(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {problem}", field=field, reason="INVALID_CERTIFICATE_REQUEST")
