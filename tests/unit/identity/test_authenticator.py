from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from distributor.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from distributor.identity.authenticator import ON_BEHALF_OF, Authenticator, Transport, certificate_reader
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.certificates import Holder, PeerIdentity, PeerKind, PeerName
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.grants import Grant, Grants
from distributor.identity.roles import NO_ROLES, Role
from distributor.identity.service_access import ServiceAccess
from distributor.identity.token_keys import key_ring
from distributor.identity.tokens import Revoked, TokenVerifier
from distributor.wire.client_address import CLIENT_ADDRESS
from tests.support.certificates import CertificateMaker
from tests.support.token_issuer import KEY, RULES, signed

SERVICES = {
    "bridge": ServiceAccess(frozenset({Role.DELEGATE})),
    "reports": ServiceAccess(frozenset({Role.VIEWER}), Grants((Grant(agents=("web-*",)),))),
    "gateway": ServiceAccess(frozenset({Role.DELEGATE, Role.ADMIN})),
}


def of_certificate(transport: Transport) -> PeerIdentity | None:
    """As if the transport had verified a certificate with this identity."""
    verified = transport()
    if "identity" not in verified:
        return None
    kind, name, *labels = (part.decode() for part in verified["identity"])
    holder = Holder(PeerName(PeerKind(kind), name), 0, dict(label.split("=") for label in labels))
    return PeerIdentity(holder, 0.0, 2_100_000_000.0)


AUTHENTICATOR = Authenticator(TokenVerifier(key_ring([KEY], []), RULES), of_certificate, SERVICES.get)


async def who(*metadata: tuple[str, str | bytes], identity: str = "") -> Caller | None:
    transport = {"identity": [part.encode() for part in identity.split("/")]} if identity else {}
    return await AUTHENTICATOR.caller(metadata, lambda: transport, "10.0.0.7")


def bearer(**changes: Any) -> tuple[str, str]:
    return "authorization", f"Bearer {signed(**changes)}"


def on_behalf_of(**changes: Any) -> tuple[str, str]:
    return ON_BEHALF_OF, signed(**changes)


async def test_without_credentials_nobody_is_known() -> None:
    assert await who(("user-agent", "x")) is None


async def test_a_token_says_who_calls() -> None:
    caller = await who(bearer(roles=["operator"], grants=[{"agents": ["web-*"]}], jti="7"))
    assert caller is not None
    assert (caller.kind, caller.subject, caller.address) == (CallerKind.USER, "alice", "10.0.0.7")
    assert caller.roles == {Role.OPERATOR, Role.VIEWER}
    assert caller.grants.permit_agent("web-1", {})
    assert not caller.grants.permit_agent("db-1", {})
    assert caller.token_ids == ("7",)
    assert caller.expires is not None


async def test_a_certificate_says_who_calls() -> None:
    agent = await who(identity="agent/web-1")
    assert agent is not None
    assert (agent.kind, agent.subject, agent.roles, agent.expires) == (
        CallerKind.AGENT,
        "web-1",
        NO_ROLES,
        2_100_000_000,
    )
    assert not agent.grants.permit_agent("web-1", {})
    service = await who(identity="service/reports")
    assert service is not None
    assert (service.kind, service.roles, service.grants) == (CallerKind.SERVICE, *SERVICES["reports"])


async def test_a_revoked_certificate_of_an_agent_does_not_count() -> None:
    revoked = Revoked(certificate=lambda agent_id, generation: (agent_id, generation) == ("web-1", 0))
    authenticator = Authenticator(None, of_certificate, SERVICES.get, revoked)
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.caller((), lambda: {"identity": [b"agent", b"web-1"]}, "10.0.0.7")
    assert refused.value.reason == "CREDENTIALS_REVOKED"
    for others in ({"identity": [b"agent", b"web-2"]}, {"identity": [b"service", b"web-1"]}):
        assert await authenticator.caller((), partial(dict, others), "10.0.0.7") is not None


async def test_labels_of_an_agent_come_from_its_credential() -> None:
    by_token = await who(bearer(roles=["agent"], scope="", sub="web-1", labels={"site": "lab"}))
    assert by_token is not None
    assert by_token.labels == {"site": "lab"}
    by_certificate = await who(identity="agent/web-1/site=lab")
    assert by_certificate is not None
    assert by_certificate.labels == {"site": "lab"}
    service = await who(identity="service/reports/site=lab")
    assert service is not None
    assert service.labels == {}


async def test_callers_are_equal_and_hashable_with_labels() -> None:
    first, second = [await who(identity="agent/web-1/site=lab") for _ in range(2)]
    assert first == second
    assert hash(first) == hash(second)
    assert first != await who(identity="agent/web-1")


async def test_a_service_without_a_table_may_do_nothing() -> None:
    caller = await who(identity="service/unheard-of")
    assert caller is not None
    assert caller.roles == set()


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic YTpi")],
        [("authorization", b"Bearer x")],
        [("authorization", "")],
        [("authorization", "Bearer not-a-token")],
        [bearer(), bearer()],
        [bearer(exp=1)],
        [on_behalf_of()],
        [bearer(roles=["delegate"]), (ON_BEHALF_OF, "not-a-token")],
        [bearer(roles=["delegate"]), on_behalf_of(exp=1)],
        [bearer(roles=["delegate"]), on_behalf_of(), on_behalf_of()],
        [bearer(roles=["delegate"]), on_behalf_of(roles=["agent"], scope="")],
        [bearer(roles=["delegate"]), on_behalf_of(kind="service")],
        [bearer(roles=["delegate"]), on_behalf_of(roles=["delegate"])],
    ],
)
async def test_credentials_that_do_not_count(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        await who(*metadata)


async def test_two_identities_are_none() -> None:
    with pytest.raises(Unauthenticated, match="two identities"):
        await who(bearer(), identity="service/reports")


async def test_without_a_key_no_token_counts() -> None:
    with pytest.raises(Unauthenticated, match="no key is set"):
        await Authenticator(None).caller([bearer()], dict, "")


@pytest.mark.parametrize("identity", ["service/bridge", "service/gateway", ""])
async def test_a_delegate_has_its_users_rights_and_none_of_its_own(identity: str) -> None:
    own = [] if identity else [bearer(roles=["delegate", "admin"], sub="bridge", scope="", jti="of the bridge")]
    narrow = {"roles": ["viewer"], "grants": [{"agents": ["web-1"]}], "jti": "of alice"}
    caller = await who(*own, on_behalf_of(**narrow), identity=identity)
    assert caller is not None
    assert (caller.kind, caller.on_behalf_of) == (CallerKind.SERVICE, "alice")
    assert caller.subject in ("bridge", "gateway")
    assert caller.roles == {Role.VIEWER}
    assert not caller.grants.permit_agent("web-2", {})
    assert caller.token_ids == (("of alice",) if identity else ("of the bridge", "of alice"))
    assert caller.expires is not None


async def test_a_delegate_itself_may_do_nothing() -> None:
    caller = await who(identity="service/bridge")
    assert caller is not None
    assert caller.roles == {Role.DELEGATE}


@pytest.mark.parametrize("identity", ["service/reports", "service/unheard-of", "agent/web-1", ""])
async def test_others_cannot_call_on_behalf_of_a_user(identity: str) -> None:
    own = [] if identity else [bearer(roles=["admin"])]
    with pytest.raises(PermissionDenied, match="needs the role delegate"):
        await who(*own, on_behalf_of(roles=["admin"]), identity=identity)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [("192.0.2.9", "192.0.2.9"), ("2001:DB8::9", "2001:db8::9"), ("::ffff:192.0.2.9", "192.0.2.9")],
)
async def test_a_delegate_forwards_the_address_of_its_user(forwarded: str, address: str) -> None:
    caller = await who(on_behalf_of(), (CLIENT_ADDRESS, forwarded), identity="service/bridge")
    assert caller is not None
    assert (caller.on_behalf_of, caller.address, caller.via) == ("alice", address, "10.0.0.7")
    requester = caller.requester()
    assert requester is not None
    assert requester.address == address
    plain = await who(on_behalf_of(), identity="service/bridge")
    assert plain is not None
    assert (plain.address, plain.via) == ("10.0.0.7", "")


@pytest.mark.parametrize(
    "forwarded",
    ["192.0.2.256", "localhost", "192.0.2.9:80", "[::1]", "fe80::1%\teth0", " 192.0.2.9", "1" * 46, b"1.2.3.4"],
)
async def test_what_is_no_address_is_not_forwarded(forwarded: str | bytes) -> None:
    with pytest.raises(Unauthenticated, match=CLIENT_ADDRESS):
        await who(on_behalf_of(), (CLIENT_ADDRESS, forwarded), identity="service/bridge")


async def test_only_delegates_forward_an_address() -> None:
    forwarded = (CLIENT_ADDRESS, "192.0.2.9")
    for own, identity in (([bearer()], ""), ([], "service/bridge"), ([], "agent/web-1")):
        with pytest.raises(Unauthenticated, match="only for calls with distributor-on-behalf-of"):
            await who(*own, forwarded, identity=identity)
    with pytest.raises(PermissionDenied, match="needs the role delegate"):
        await who(bearer(roles=["admin"]), on_behalf_of(), forwarded)
    with pytest.raises(Unauthenticated, match="sent twice"):
        await who(on_behalf_of(), forwarded, forwarded, identity="service/bridge")


async def test_a_call_on_behalf_of_a_user_ends_with_the_first_of_both_tokens() -> None:
    for own, users in ((60, 30), (30, 60)):
        caller = await who(bearer(roles=["delegate"], exp=2_000_000_000 + own), on_behalf_of(exp=2_000_000_000 + users))
        assert caller is not None
        assert caller.expires == 2_000_000_030


def test_a_certificate_is_taken_from_the_transport_alone() -> None:
    maker = CertificateMaker()
    read = certificate_reader(maker.trust_domain)
    identity = read(lambda: {"x509_pem_cert": [maker.agent("web-1").certificate_pem]})
    assert identity is not None
    assert identity.peer == PeerName(PeerKind.AGENT, "web-1")
    assert read(lambda: {"x509_pem_cert": []}) is None
    assert read(lambda: {}) is None
    with pytest.raises(Unauthenticated):
        certificate_reader("another")(lambda: {"x509_pem_cert": [maker.agent("web-1").certificate_pem]})


async def test_a_flood_of_forged_tokens_ends_in_refusals_that_others_do_not_feel() -> None:
    """Certificates and tokens whose check is remembered count; what a delegate forwards is its own affair."""
    attempts = CredentialAttempts(rate=1.0, burst=3.0, clock=lambda: 0.0)
    limited = Authenticator(TokenVerifier(key_ring([KEY], []), RULES), of_certificate, SERVICES.get, attempts=attempts)

    async def call(*metadata: tuple[str, str], identity: str = "") -> str:
        transport = {"identity": [part.encode() for part in identity.split("/")]} if identity else {}
        try:
            await limited.caller(metadata, lambda: transport, "10.0.0.7")
        except (Unauthenticated, ResourceExhausted) as error:
            return error.reason
        return "OK"

    forged, known = ("authorization", "Bearer forged"), bearer()
    assert await call(known) == "OK"
    assert [await call(forged) for _ in range(4)] == ["TOKEN_REFUSED"] * 3 + ["TOO_MANY_FAILED_CREDENTIALS"]
    assert await call(bearer()) == "TOO_MANY_FAILED_CREDENTIALS"
    assert await call(known) == "OK"
    assert await call(identity="agent/press-7") == "OK"
    assert await call(on_behalf_of(), identity="service/bridge") == "OK"
    for _ in range(3):
        assert await call((ON_BEHALF_OF, "forged"), identity="service/bridge") == "TOKEN_REFUSED"
    assert await call(on_behalf_of(), identity="service/bridge") == "TOO_MANY_FAILED_CREDENTIALS"
    assert await call(on_behalf_of(), identity="service/gateway") == "OK"
