from __future__ import annotations

import pytest
from cryptography import x509

from distributor.errors import Unauthenticated
from distributor.identity.certificate_generation import GENERATION_OID
from distributor.identity.certificates import identity_of
from tests.support.certificates import TRUST_DOMAIN, CertificateMaker

MAKER = CertificateMaker()


def generation(der: bytes) -> int:
    """What a certificate whose extension has this value says."""
    extension = x509.UnrecognizedExtension(GENERATION_OID, der)
    pem = MAKER.issue(uris=[MAKER.uri("agent/press-7")], extension=extension).certificate_pem
    return identity_of(pem, TRUST_DOMAIN).generation


def test_a_generation_is_a_decimal_number() -> None:
    assert generation(b"\x0c\x013") == 3
    assert generation(b"\x0c\x0f" + b"9" * 15) == 10**15 - 1


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x0c",
        b"\x0c\x00",
        b"\x0c\x010",
        b"\x0c\x0203",
        b"\x0c\x02-1",
        b"\x0c\x10" + b"9" * 16,
        b"\x02\x013",
        b"3",
    ],
)
def test_other_values_refuse_the_certificate(der: bytes) -> None:
    with pytest.raises(Unauthenticated, match="refused: its generation cannot be read"):
        generation(der)
