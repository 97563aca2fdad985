"""What a revocation refuses."""

from __future__ import annotations

from distributor.model.revocation import NOTHING_REVOKED, Credential, Revocation, RevocationList, RevokedKind

LIST = RevocationList(
    7,
    [
        Revocation(RevokedKind.AGENT, "press-7", 5_000, generation=2),
        Revocation(RevokedKind.TOKEN, "jti-1", 5_000),
        Revocation(RevokedKind.SERVICE, "billing", 5_000),
    ],
)


def test_certificates_up_to_the_generation_are_revoked_and_later_ones_count() -> None:
    assert LIST.is_certificate_revoked("press-7", 2)
    assert LIST.is_certificate_revoked("press-7", 1)
    assert not LIST.is_certificate_revoked("press-7", 3)
    assert not LIST.is_certificate_revoked("press-8", 1)


def test_certificates_of_another_ca_are_revoked_by_any_entry() -> None:
    assert LIST.is_certificate_revoked("press-7", 0)


def test_tokens_of_an_agent_count_again_if_they_are_newer() -> None:
    assert LIST.is_agent_token_revoked("press-7", 5.0)
    assert not LIST.is_agent_token_revoked("press-7", 5.1)
    assert not LIST.is_agent_token_revoked("press-8", 1.0)


def test_what_a_service_is_issued_after_its_revocation_counts() -> None:
    assert LIST.refuses(Credential(service="billing", issued=5.0))
    assert not LIST.refuses(Credential(service="billing", issued=5.1))
    assert not LIST.refuses(Credential(service="reports", issued=1.0))
    assert not LIST.refuses(Credential("billing", None))


def test_tokens_are_revoked_by_id() -> None:
    assert LIST.is_token_revoked("jti-1")
    assert not LIST.is_token_revoked("jti-2")
    assert not LIST.is_token_revoked("press-7")
    assert not NOTHING_REVOKED.is_token_revoked("jti-1")
