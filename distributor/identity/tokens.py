"""Verifies and mints tokens: JWTs under the rules of RFC 8725.

A token has one algorithm, which its key decides, and the claims `sub`, `iss`, `aud`, `exp`, `iat` and `jti`. Headers
that a verifier must understand (`crit`) are refused, since none is defined here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt

from distributor.errors import ConfigurationError, DistributorError, InvalidArgument, Unauthenticated, Unavailable
from distributor.identity.caller import CallerKind
from distributor.identity.grant_claims import NOTHING, grants_of
from distributor.identity.grants import EVERYTHING, Grants
from distributor.identity.roles import NO_ROLES, Role, with_included
from distributor.identity.token_keys import MAX_CHECKS, KeyRing, TokenKey, fingerprint
from distributor.model.command import InvalidField
from distributor.model.labels import NO_LABELS, credential_labels

MAX_TOKEN_CHARACTERS: Final = 7_168
"""The token of a delegate and that of its user fit into the metadata of a call."""
MAX_SUBJECT_CHARACTERS: Final = 255
MAX_TOKEN_ID_CHARACTERS: Final = 128
MAX_EXPIRES: Final = 253_402_300_799
"""The end of the year 9999."""
LEEWAY_SECONDS: Final = 5.0
MAX_REMEMBERED: Final = 20_480
"""Tokens remembered, to check the signature of a caller's token once: as many as agents, and some more."""
AGENT_ROLE: Final = "agent"
_ROLES: Final = {
    **{role.value: role for role in Role},
    "dashboard:read": Role.VIEWER,
    "command:write": Role.OPERATOR,
}
"""Roles by the words of the claims `roles` and `scope`; the last two are of the original dashboard protocol."""
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_REQUIRED: Final = ("sub", "iss", "aud", "exp", "iat", "jti")


class TokenRules(NamedTuple):
    """What a token must say, and the tolerated clock difference between its issuer and this process."""

    issuer: str = "command-distributor"
    audience: str = "command-distributor"
    leeway_seconds: float = LEEWAY_SECONDS


class Token(NamedTuple):
    """The claims of a verified token. Times are in seconds since the epoch.

    An agent has no roles and no grants; nobody else has labels. `key` is the fingerprint of the key that signed it.
    """

    kind: CallerKind
    subject: str
    token_id: str
    issued: float
    expires: float
    roles: frozenset[Role]
    grants: Grants
    key: str
    labels: Mapping[str, str] = NO_LABELS


class NewToken(NamedTuple):
    """A token to mint; times in seconds since the epoch.

    An agent's token has neither roles nor grants, and nobody else's has labels.
    """

    kind: CallerKind
    subject: str
    issued: int
    expires: int
    roles: Sequence[Role] = ()
    grants: Grants = EVERYTHING
    labels: Mapping[str, str] = NO_LABELS


class Revoked(NamedTuple):
    """What is revoked: tokens by their id; what an agent or a service was issued up to some time, in seconds; an
    agent's certificates up to some enrolment.
    """

    token_id: Callable[[str], bool] = lambda _: False
    agent: Callable[[str, float], bool] = lambda _, __: False
    service: Callable[[str, float], bool] = lambda _, __: False
    certificate: Callable[[str, int], bool] = lambda _, __: False


NOTHING_REVOKED: Final = Revoked()


def _nothing() -> bool:
    return False


class TokenVerifier:
    """Verifies tokens with the keys of a ring, which may be replaced at any time. No I/O."""

    def __init__(
        self,
        keys: KeyRing,
        rules: TokenRules,
        revoked: Revoked = NOTHING_REVOKED,
        refresh: Callable[[], bool] = _nothing,
    ) -> None:
        """`refresh` is called for a token of an unknown key, and returns whether the keys are being fetched again."""
        self._keys = keys
        self.rules = rules
        self.revoked = revoked
        self.refresh = refresh
        self._verified: dict[bytes, Token] = {}
        self._fingerprints = frozenset(map(fingerprint, keys.keys))

    @property
    def keys(self) -> KeyRing:
        """The keys in use."""
        return self._keys

    def use(self, keys: KeyRing) -> None:
        """Verify with these keys from now on."""
        if keys != self._keys:
            self._keys = keys
            self._fingerprints = frozenset(map(fingerprint, keys.keys))
            self._verified.clear()

    def accepts_key(self, fingerprint: str) -> bool:
        """Whether a token signed with the key of this fingerprint still counts."""
        return fingerprint in self._fingerprints

    def remembers(self, token: str) -> bool:
        """Whether the signature of a token was verified before with the keys in use."""
        return _digest(token) in self._verified

    def refuses_unchecked(self, token: str) -> bool:
        """Whether a token that does not count costs no check of a signature: it names no key in use, or is remembered,
        as those are that were valid once.
        """
        if self.remembers(token):
            return True
        try:
            return not self._keys.candidates(*_header(token))
        except Unauthenticated:
            return False

    def verify(self, token: str, now: float | None = None) -> Token:
        """Verify a token. The message of an error never contains the token.

        Raises Unauthenticated with the reason; Unavailable if its key may be among those being fetched.
        """
        now = time.time() if now is None else now
        digest = _digest(token)
        known = self._verified.get(digest)
        if known is None:
            known = self._checked(token, now)
            if len(self._verified) >= MAX_REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = known
        if now >= known.expires + self.rules.leeway_seconds:
            raise refused("the token has expired", "TOKEN_EXPIRED")
        if self._is_revoked(known):
            raise refused("the token is revoked", "TOKEN_REVOKED")
        return known

    def _is_revoked(self, token: Token) -> bool:
        if token.kind is CallerKind.AGENT and self.revoked.agent(token.subject, token.issued):
            return True
        if token.kind is CallerKind.SERVICE and self.revoked.service(token.subject, token.issued):
            return True
        return self.revoked.token_id(token.token_id)

    def _checked(self, token: str, now: float) -> Token:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise refused(f"the token is over {MAX_TOKEN_CHARACTERS:,} characters")
        algorithm, key_id = _header(token)
        candidates = self._keys.candidates(algorithm, key_id)
        if not candidates:
            raise self._no_key(key_id)
        if len(candidates) > MAX_CHECKS:
            raise refused(
                f"{len(candidates)} keys may have signed the token, and at most {MAX_CHECKS} are tried: it must name "
                "its key (kid)"
            )
        claims, key = _claims(token, algorithm, candidates)
        return _token_of(claims, fingerprint(key), self.rules, now)

    def _no_key(self, key_id: str) -> DistributorError:
        if key_id and self.refresh():
            return Unavailable(
                "the token is signed with a key that is not known yet; the keys are being fetched",
                reason="KEYS_REFRESHING",
                retry_after_seconds=1.0,
            )
        return refused("the token's key id and algorithm match none of the keys")


def mint(key: TokenKey, rules: TokenRules, new: NewToken) -> str:
    """Sign a token with a shared key."""
    claims: dict[str, Any] = {
        "sub": new.subject,
        "iss": rules.issuer,
        "aud": rules.audience,
        "iat": new.issued,
        "exp": new.expires,
        "jti": secrets.token_hex(16),
        "roles": [AGENT_ROLE] if new.kind is CallerKind.AGENT else list(new.roles),
    }
    if new.kind is CallerKind.SERVICE:
        claims["kind"] = new.kind
    if new.labels:
        claims["labels"] = dict(new.labels)
    if (grants := new.grants.documents()) is not None:
        claims["grants"] = grants
    token = jwt.encode(claims, key.key, algorithm=key.algorithm, headers={"kid": key.key_id})
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise ConfigurationError(
            f"the token would be over {MAX_TOKEN_CHARACTERS:,} characters; use fewer grants or labels", field="grants"
        )
    return token


def refused(message: str, reason: str = "TOKEN_REFUSED") -> Unauthenticated:
    """The error for a token that is not accepted."""
    return Unauthenticated(message, reason=reason, field="token")


def _digest(token: str) -> bytes:
    """What stands for a token in memory: shorter than most, and no secret."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _header(token: str) -> tuple[str, str]:
    """The algorithm and key id of a token; the id is empty if it names none."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise refused("the token is not a JWT") from error
    if "crit" in header:
        raise refused("the token has a crit header, which is not supported")
    type_ = str(header.get("typ", "JWT")).lower().removeprefix("application/")
    if type_ not in _TYPES:
        raise refused("the token is of another type")
    return str(header.get("alg")), str(header.get("kid") or "")


def _claims(token: str, algorithm: str, candidates: Sequence[TokenKey]) -> tuple[dict[str, Any], TokenKey]:
    """The claims of a token, and the key that signed it."""
    for candidate in candidates:
        try:
            payload = jwt.PyJWS().decode(token, candidate.key, algorithms=[algorithm])
            claims = json.loads(payload)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise refused("the token is not valid") from error
        if not isinstance(claims, dict):
            raise refused("the token is not valid")
        return claims, candidate
    raise refused("the token is not signed by a known key")


def _token_of(claims: Mapping[str, Any], key: str, rules: TokenRules, now: float) -> Token:
    for name in _REQUIRED:
        if claims.get(name) is None:
            raise refused(f"the token has no {name}")
    if claims["iss"] != rules.issuer:
        raise refused("the token is of another issuer")
    audience = claims["aud"]
    if rules.audience not in (audience if isinstance(audience, list) else [audience]):
        raise refused("the token is for another audience")
    issued, expires = _checked_times(claims, now, rules.leeway_seconds)
    subject = _text(claims, "sub", MAX_SUBJECT_CHARACTERS)
    token_id = _text(claims, "jti", MAX_TOKEN_ID_CHARACTERS)
    words = _role_words(claims)
    if AGENT_ROLE in words:
        if len(words) > 1:
            raise refused("the token of an agent must have no other role")
        return Token(CallerKind.AGENT, subject, token_id, issued, expires, NO_ROLES, NOTHING, key, _labels(claims))
    roles = with_included({role for word, role in _ROLES.items() if word in words})
    return Token(_kind(claims, roles), subject, token_id, issued, expires, roles, _grants(claims), key)


def _checked_times(claims: Mapping[str, Any], now: float, leeway: float) -> tuple[float, float]:
    """When the token was issued and when it expires, in seconds since the epoch. It may have expired."""
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if expires > MAX_EXPIRES:
        raise refused("the token expires after the year 9999")
    if issued > now + leeway:
        raise refused("the token is issued in the future")
    if claims.get("nbf") is not None and _time(claims, "nbf") > now + leeway:
        raise refused("the token is not valid yet")
    return issued, expires


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        seconds = float(value)
    except (ValueError, OverflowError) as error:
        raise refused(f"the token's {name} is not a time") from error
    if not 0 <= seconds < float("inf"):
        raise refused(f"the token's {name} is not a time")
    return seconds


def _text(claims: Mapping[str, Any], name: str, limit: int) -> str:
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise refused(f"the token's {name} must be 1 to {limit} printable characters")
    return value


def _role_words(claims: Mapping[str, Any]) -> frozenset[str]:
    """The words of `roles` and of `scope` (RFC 8693). Those unknown here may matter to other programs."""
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise refused("the token's roles must be a list of words")
    scope = claims.get("scope")
    return frozenset(roles) | frozenset(scope.split() if isinstance(scope, str) else ())


def _kind(claims: Mapping[str, Any], roles: frozenset[Role]) -> CallerKind:
    kind = claims.get("kind", CallerKind.SERVICE if Role.DELEGATE in roles else CallerKind.USER)
    if kind not in (CallerKind.USER, CallerKind.SERVICE):
        raise refused("the token's kind must be user or service")
    return CallerKind(kind)


def _labels(claims: Mapping[str, Any]) -> Mapping[str, str]:
    if "labels" not in claims:
        return NO_LABELS
    try:
        return credential_labels(claims["labels"])
    except InvalidField as error:
        raise refused(f"the token's {error}") from error


def _grants(claims: Mapping[str, Any]) -> Grants:
    # A claim of null is no grant, rather than every grant.
    if "grants" not in claims:
        return EVERYTHING
    try:
        return grants_of(claims["grants"])
    except InvalidArgument as error:
        raise refused(f"the token's {error}") from error
