"""Identities in certificates: exactly one, of this trust domain, or refused with a reason."""

from __future__ import annotations

import pytest

from distributor.errors import Unauthenticated
from distributor.identity.certificates import PeerKind, PeerName, current_identity, identity_of
from tests.support.certificates import HOUR, CertificateMaker

CA = CertificateMaker()


def identity(pem: bytes) -> PeerName:
    return identity_of(pem, "distributor").peer


def test_an_agent_and_a_service_are_told_by_their_uri() -> None:
    assert identity(CA.agent("press-7").certificate_pem) == (PeerKind.AGENT, "press-7")
    assert identity(CA.service("billing").certificate_pem) == (PeerKind.SERVICE, "billing")


def test_the_common_name_does_not_count() -> None:
    pem = CA.issue(uris=[CA.uri("agent/press-7")], common_name="press-8").certificate_pem
    assert identity(pem).name == "press-7"


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ((CA.uri("agent/a"), CA.uri("agent/b")), "2 subject alternative names"),
        ((), "no subject alternative name"),
        (("spiffe://elsewhere/agent/a",), "trust domain"),
        (("spiffe://distributor.evil/agent/a",), "trust domain"),
        (("spiffe://distributor",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a/b",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a%2Fb",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a?x=1",), "neither an agent nor a service"),
        (("spiffe://distributor/user/a",), "neither an agent nor a service"),
        (("spiffe://distributor/AGENT/a",), "neither an agent nor a service"),
        (("SPIFFE://distributor/agent/a",), "not a SPIFFE id"),
        (("https://distributor/agent/a",), "not a SPIFFE id"),
        (("spiffe://distributor/agent/" + "a" * 129,), "neither an agent nor a service"),
    ],
)
def test_other_uris_are_refused(uris: tuple[str, ...], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as caught:
        identity(CA.issue(uris=uris).certificate_pem)
    assert caught.value.reason == "CERTIFICATE_REFUSED"


def test_a_uri_beside_a_host_name_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="2 subject alternative names"):
        identity(CA.issue(uris=[CA.uri("agent/a")], hosts=["localhost"]).certificate_pem)


def test_a_server_is_nobody() -> None:
    with pytest.raises(Unauthenticated, match="not a URI"):
        identity(CA.server("localhost").certificate_pem)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"x" * 100_000, CA.key_pem])
def test_what_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(Unauthenticated):
        identity(pem)


def test_a_certificate_that_expired_during_its_connection_is_refused() -> None:
    pem = CA.agent("press-7").certificate_pem
    expires = identity_of(pem, "distributor").expires
    assert current_identity(pem, "distributor", expires - 1).peer.name == "press-7"
    with pytest.raises(Unauthenticated, match="expired"):
        current_identity(pem, "distributor", expires)
    assert expires - identity_of(pem, "distributor").starts == HOUR.total_seconds()


def test_a_certificate_of_another_ca_has_no_generation() -> None:
    assert identity_of(CA.agent("press-7").certificate_pem, "distributor").generation == 0
