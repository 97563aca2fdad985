from __future__ import annotations

import base64
import json
import time
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from distributor.errors import ConfigurationError, Unauthenticated, Unavailable
from distributor.identity.caller import CallerKind
from distributor.identity.grants import EVERYTHING, Grant, Grants
from distributor.identity.roles import NO_ROLES, Role
from distributor.identity.token_keys import MAX_CHECKS, MAX_UNNAMED, KeyRing, TokenKey, key_ring
from distributor.identity.tokens import (
    LEEWAY_SECONDS,
    MAX_REMEMBERED,
    MAX_TOKEN_CHARACTERS,
    NewToken,
    Revoked,
    TokenRules,
    TokenVerifier,
    mint,
)
from tests.support.token_issuer import KEY, PEMS, PRIVATE, RULES, claims, signed

RING = key_ring([KEY], PEMS)
ALL_ROLES = {Role.VIEWER, Role.OPERATOR, Role.ADMIN}
NOW = 1_800_000_000


def verifier(ring: KeyRing = RING, **options: Any) -> TokenVerifier:
    return TokenVerifier(ring, RULES, **options)


def new_token(**changes: Any) -> NewToken:
    usual: dict[str, Any] = {
        "kind": CallerKind.USER,
        "subject": "alice",
        "issued": NOW,
        "expires": NOW + 60,
        "roles": [Role.VIEWER],
    }
    return NewToken(**usual | changes)


def minted(**changes: Any) -> str:
    assert RING.signing is not None
    return mint(RING.signing, RULES, new_token(**changes))


# What a token says


def test_a_minted_token_says_who_and_what() -> None:
    grants = Grants((Grant(agents=("web-*",), labels={"site": "berlin"}, types=("PING",)),))
    token = verifier().verify(minted(roles=[Role.OPERATOR], grants=grants), NOW)
    assert (token.kind, token.subject, token.expires) == (CallerKind.USER, "alice", NOW + 60)
    assert token.roles == {Role.OPERATOR, Role.VIEWER}
    assert token.grants == grants


def test_each_token_has_an_id_of_its_own() -> None:
    first, second = (verifier().verify(minted(), NOW).token_id for _ in range(2))
    assert first != second


def test_a_token_of_an_agent_has_no_role_and_no_grant() -> None:
    token = verifier().verify(minted(kind=CallerKind.AGENT, subject="web-1", roles=[]), NOW)
    assert (token.kind, token.subject, token.roles) == (CallerKind.AGENT, "web-1", NO_ROLES)
    assert not token.grants.permit_agent("web-1", {})
    assert token.labels == {}


def test_a_token_of_an_agent_may_have_labels() -> None:
    labels = {"site": "lab", "line": "1"}
    token = verifier().verify(minted(kind=CallerKind.AGENT, subject="web-1", roles=[], labels=labels), NOW)
    assert token.labels == labels


def test_labels_of_others_say_nothing() -> None:
    assert verifier().verify(signed(labels={"site": "lab"})).labels == {}
    assert verifier().verify(signed(labels=["of", "another", "program"])).labels == {}


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (None, "must be an object"),
        ("site=lab", "must be an object"),
        ({"site": 1}, "must be an object"),
        ({"site": "\ud800"}, "printable"),
        ({str(place): "" for place in range(21)}, "the limit is 20"),
    ],
)
def test_labels_that_will_not_do(labels: object, why: str) -> None:
    with pytest.raises(Unauthenticated, match=why):
        verifier().verify(signed(roles=["agent"], scope="", sub="web-1", labels=labels))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"roles": [Role.DELEGATE]}, CallerKind.SERVICE),
        ({"kind": CallerKind.SERVICE}, CallerKind.SERVICE),
        ({}, CallerKind.USER),
    ],
)
def test_services_and_users(changes: dict[str, Any], kind: CallerKind) -> None:
    assert verifier().verify(minted(**changes), NOW).kind is kind


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"roles": ["admin"]}, ALL_ROLES),
        ({"roles": ["operator", "of another program"]}, {Role.OPERATOR, Role.VIEWER}),
        ({"scope": "dashboard:read x"}, {Role.VIEWER}),
        ({"scope": "command:write"}, {Role.OPERATOR, Role.VIEWER}),
        ({"scope": "dashboard:readx", "roles": []}, set()),
        ({"scope": None}, set()),
        ({"scope": 7}, set()),
        ({"scope": ["dashboard:read"]}, set()),
    ],
)
def test_roles_and_scopes(changes: dict[str, Any], roles: set[Role]) -> None:
    assert verifier().verify(signed(**{"scope": ""} | changes)).roles == roles


@pytest.mark.parametrize(
    ("claim", "grants"),
    [([], Grants(())), ([{}], Grants((Grant(),))), ([{"agents": ["a"]}], Grants((Grant(agents=("a",)),)))],
)
def test_grants(claim: object, grants: Grants) -> None:
    assert verifier().verify(signed(grants=claim)).grants == grants


def test_without_a_claim_of_grants_everything_is_granted() -> None:
    assert verifier().verify(signed()).grants == EVERYTHING


@pytest.mark.parametrize(
    "changes",
    [
        {"grants": None},
        {"grants": "*"},
        {"grants": {}},
        {"grants": ["*"]},
        {"grants": [{"agent": ["a"]}]},
        {"grants": [{"agents": "a"}]},
        {"grants": [{}] * 51},
        {"roles": "admin"},
        {"roles": [7]},
        {"roles": ["agent", "admin"]},
        {"roles": ["agent"], "scope": "command:write"},
        {"kind": "agent"},
        {"kind": ["user"]},
    ],
)
def test_claims_that_could_be_taken_for_more_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        verifier().verify(signed(**changes))


# RFC 8725


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_public_keys_of_each_kind(algorithm: str) -> None:
    token = jwt.encode(claims(), PRIVATE[algorithm], algorithm=algorithm)
    assert verifier().verify(token).subject == "alice"


@pytest.mark.parametrize("missing", ["exp", "iat", "sub", "aud", "iss", "jti"])
def test_every_claim_is_required(missing: str) -> None:
    others = {name: value for name, value in claims().items() if name != missing}
    with pytest.raises(Unauthenticated, match=f"has no {missing}"):
        verifier().verify(jwt.encode(others, KEY))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lifetime": -LEEWAY_SECONDS - 2}, "expired"),
        ({"issued_in": 600}, "issued in the future"),
        ({"nbf": time.time() + 86_400}, "not valid yet"),
        ({"nbf": "soon"}, "nbf is not a time"),
        ({"iat": True}, "iat is not a time"),
        ({"aud": "other"}, "another audience"),
        ({"aud": ["other", 7]}, "another audience"),
        ({"iss": "other"}, "another issuer"),
        ({"iss": ["command-distributor"]}, "another issuer"),
        ({"sub": 7}, "sub must be"),
        ({"sub": ""}, "sub must be"),
        ({"sub": "a\nb"}, "sub must be"),
        ({"sub": "a" * 256}, "sub must be"),
        ({"jti": ""}, "jti must be"),
        ({"jti": 7}, "jti must be"),
        ({"jti": "a" * 129}, "jti must be"),
    ],
)
def test_claims_that_will_not_do(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why):
        verifier().verify(signed(**changes))


def test_one_of_several_audiences_is_enough() -> None:
    assert verifier().verify(signed(aud=["other", RULES.audience])).subject == "alice"


def test_a_public_key_is_no_shared_key() -> None:
    """The oldest trick: sign with the public key's text as if it were an HS256 secret."""
    pem = dict(PEMS)["RS256.pem"]
    header = _part('{"alg":"HS256","typ":"JWT"}').encode()
    signed_part = header + b"." + _part(json.dumps(claims())).encode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed_part, pem)
    forged = b".".join([signed_part, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    for ring in (key_ring([], PEMS), RING):
        with pytest.raises(Unauthenticated):
            verifier(ring).verify(forged)


def test_no_signature_is_not_enough() -> None:
    with pytest.raises(Unauthenticated, match="algorithm"):
        verifier().verify(jwt.encode(claims(), cast(Any, None), algorithm="none"))


def test_the_algorithm_is_that_of_the_key() -> None:
    for algorithm in ("HS384", "HS512"):
        with pytest.raises(Unauthenticated, match="algorithm"):
            verifier().verify(jwt.encode(claims(), KEY * 2, algorithm=algorithm))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None])
def test_a_header_that_must_be_understood_is_not(crit: object) -> None:
    with pytest.raises(Unauthenticated):
        verifier().verify(jwt.encode(claims(), KEY, headers={"crit": crit, "b64": True}))


@pytest.mark.parametrize("type_", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_types_of_tokens(type_: str) -> None:
    assert verifier().verify(jwt.encode(claims(), KEY, headers={"typ": type_})).subject == "alice"


@pytest.mark.parametrize("type_", ["dpop+jwt", "logout+jwt", "JWE"])
def test_tokens_made_for_something_else_are_refused(type_: str) -> None:
    with pytest.raises(Unauthenticated, match="another type"):
        verifier().verify(jwt.encode(claims(), KEY, headers={"typ": type_}))


def _part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "." * 7_000,
        "x" * 7_169,
        "\ud800.x.y",
        "\u00e9.\u00e9.\u00e9",
        f"{_part('[' * 6_000)}.e30.x",
        f"{_part('[]')}.e30.x",
        f"""{_part('{"alg":["HS256"]}')}.e30.x""",
        f"""{_part('{"alg":' + "9" * 5_000 + "}")}.e30.x""",
        f"""{_part('{"alg":"HS256","typ":["JWT"]}')}.e30.x""",
        f"""{_part('{"alg":"HS256","kid":{}}')}.e30.x""",
        f"""{_part('{"alg":"HS256","b64":false,"crit":["b64"]}')}.e30.x""",
    ],
)
def test_whatever_is_sent_as_a_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier().verify(token)


def test_a_huge_token_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(jwt, "get_unverified_header", parsed.append)
    with pytest.raises(Unauthenticated, match="over 7,168 characters"):
        verifier().verify("x" * (MAX_TOKEN_CHARACTERS + 1))
    assert not parsed


@pytest.mark.parametrize("payload", [b"[]", b"7", b"null", b"not json", b"[" * 5_000])
def test_a_payload_that_is_no_object_is_refused_even_if_it_is_signed(payload: bytes) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        verifier().verify(jwt.PyJWS().encode(payload, KEY, algorithm="HS256"))


@pytest.mark.parametrize("expires", [10**400, float("inf"), float("nan"), 10**15, [1], "never", None, True, -1])
def test_an_odd_expiry_is_refused_even_if_it_is_signed(expires: object) -> None:
    with pytest.raises(Unauthenticated):
        verifier().verify(signed(exp=expires))


def test_an_error_does_not_contain_the_token() -> None:
    token = signed(aud="other")
    with pytest.raises(Unauthenticated) as caught:
        verifier().verify(token)
    assert not any(part in str(caught.value) for part in token.split("."))


def test_more_than_fits_in_a_token_is_not_minted() -> None:
    with pytest.raises(ConfigurationError, match="over 7,168 characters"):
        minted(grants=Grants((Grant(agents=tuple(f"{place:0>100}" for place in range(100))),)))


# Keys that change


def test_during_a_rotation_tokens_of_both_keys_are_accepted() -> None:
    old, new = "o" * 32, "n" * 32
    both, after = key_ring([new, old], []), key_ring([new], [])
    before = key_ring([old], [])
    assert before.signing is not None
    assert both.signing is not None
    by_old, by_new = (mint(ring.signing, RULES, new_token()) for ring in (before, both) if ring.signing)
    checked = verifier(both)
    for token in (by_old, by_new):
        assert checked.verify(token, NOW).subject == "alice"
    checked.use(after)
    assert checked.verify(by_new, NOW).subject == "alice"
    with pytest.raises(Unauthenticated):
        checked.verify(by_old, NOW)


def test_a_token_of_an_unknown_key_has_the_keys_fetched_again() -> None:
    asked: list[bool] = []

    def refresh() -> bool:
        asked.append(True)
        return len(asked) == 1

    checked = verifier(refresh=refresh)
    token = jwt.encode(claims(), PRIVATE["EdDSA"], algorithm="EdDSA", headers={"kid": "new"})
    assert verifier().verify(token).subject == "alice", "a key from a PEM file has no id"
    checked.use(key_ring([KEY], []))
    with pytest.raises(Unavailable) as caught:
        checked.verify(token)
    assert caught.value.retry_after_seconds == 1
    with pytest.raises(Unauthenticated, match="none of the keys"):
        checked.verify(token)


# Tokens that are known


def test_a_known_token_expires() -> None:
    checked, token = verifier(), minted()
    assert checked.verify(token, NOW + 59).subject == "alice"
    with pytest.raises(Unauthenticated) as caught:
        checked.verify(token, NOW + 60 + LEEWAY_SECONDS)
    assert caught.value.reason == "TOKEN_EXPIRED"


def test_a_known_token_can_be_revoked() -> None:
    revoked: set[str] = set()
    checked, token = verifier(revoked=Revoked(revoked.__contains__)), minted()
    revoked.add(checked.verify(token, NOW).token_id)
    with pytest.raises(Unauthenticated) as caught:
        checked.verify(token, NOW)
    assert caught.value.reason == "TOKEN_REVOKED"


def test_tokens_of_an_agent_that_are_older_than_its_revocation() -> None:
    checked = verifier(revoked=Revoked(agent=lambda agent_id, issued: agent_id == "web-1" and issued <= NOW))
    before, after = [minted(kind=CallerKind.AGENT, subject="web-1", roles=[], issued=at) for at in (NOW, NOW + 1)]
    other = minted(kind=CallerKind.AGENT, subject="web-2", roles=[])
    user = minted(subject="web-1")
    for token in (after, other, user):
        assert checked.verify(token, NOW + 1)
    with pytest.raises(Unauthenticated, match="revoked"):
        checked.verify(before, NOW + 1)


def test_the_memory_of_known_tokens_is_bounded() -> None:
    checked = verifier()
    for place in range(MAX_REMEMBERED + 10):
        checked.verify(minted(subject=f"user {place}"), NOW)
    assert len(checked._verified) == MAX_REMEMBERED


def test_rules_differ_by_issuer_and_audience() -> None:
    token = minted()
    for rules in (TokenRules(issuer="other"), TokenRules(audience="other")):
        with pytest.raises(Unauthenticated):
            TokenVerifier(RING, rules).verify(token, NOW)


# What a token costs


def named(number: int) -> list[TokenKey]:
    """Keys with ids, as of a key set."""
    return [TokenKey(f"key {place}", "ES256", PRIVATE["ES256"].public_key()) for place in range(number)]


def forged(monkeypatch: pytest.MonkeyPatch, ring: KeyRing, **headers: str) -> tuple[int, str]:
    """How many signatures a forged token costs, and why it is refused."""
    tried: list[object] = []
    check = jwt.PyJWS.decode

    def counted(jws: jwt.PyJWS, token: str, key: Any, *rest: Any, **named: Any) -> Any:
        tried.append(key)
        return check(jws, token, key, *rest, **named)

    monkeypatch.setattr(jwt.PyJWS, "decode", counted)
    stranger = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims(), stranger, algorithm="ES256", headers=headers)
    with pytest.raises(Unauthenticated) as caught:
        verifier(ring).verify(token)
    return len(tried), str(caught.value)


def test_a_token_without_a_key_id_is_not_tried_with_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, why = forged(monkeypatch, KeyRing().with_keys(named(MAX_CHECKS + 1)))
    assert checks == 0
    assert "must name its key (kid)" in why


def test_a_token_costs_as_many_checks_as_keys_may_have_signed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unnamed = [TokenKey("", "ES256", PRIVATE["ES256"].public_key())] * MAX_UNNAMED
    ring = KeyRing().with_keys([*unnamed, *named(32)])
    assert forged(monkeypatch, ring, kid="key 7") == (MAX_UNNAMED + 1, "the token is not signed by a known key")
    assert ring.candidates("ES256", "key 7")[0].key_id == "key 7"


def test_keys_of_one_id_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing().with_keys(named(1) * (MAX_CHECKS + 1))
    assert forged(monkeypatch, ring, kid="key 0")[0] == 0
