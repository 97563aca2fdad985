"""When the certificates in a file begin and cease to be valid."""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509


class Validity(NamedTuple):
    """A time span in seconds since the epoch."""

    starts: float
    expires: float


def validity_of(chain_pem: bytes) -> Validity:
    """The time span in which all certificates of a chain are valid. Raises ValueError if there is none in it."""
    chain = x509.load_pem_x509_certificates(chain_pem)
    return Validity(
        max(each.not_valid_before_utc.timestamp() for each in chain),
        min(each.not_valid_after_utc.timestamp() for each in chain),
    )
