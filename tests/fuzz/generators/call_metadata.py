"""Metadata of gRPC calls, and header fields of HTTP requests: credentials that are none, and anything else."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any, Final

from tests.fuzz.generators.byte_changes import changed, random_bytes

Entry = tuple[str, str | bytes]
NAMES: Final = ("authorization", "distributor-on-behalf-of", "cookie", "x-forwarded-for", "user-agent", "te", "host")
SIZES: Final = (0, 1, 63, 1_024, 8_192, 65_536)
HEADERS: Final[tuple[dict[str, Any], ...]] = (
    {"alg": "none"},
    {"alg": "HS256"},
    {"alg": "RS256", "kid": "../../etc/passwd"},
    {"alg": "HS256", "crit": ["x"], "x": 1},
    {"alg": ["HS256"]},
    {"alg": "ES256", "jku": "https://example.org/keys", "jwk": {"kty": "oct", "k": "AA"}},
    {},
)
CLAIMS: Final[tuple[Any, ...]] = (
    {"sub": "root", "roles": ["admin"], "exp": 4_000_000_000},
    {"sub": "root", "roles": "admin", "exp": "soon", "aud": "command-distributor"},
    {"sub": 1, "exp": -1, "nbf": 1e308, "grants": [{"agents": ["*"]}] * 100},
    {"sub": "x" * 20_000},
    [],
    None,
)


def odd_metadata(rng: Random) -> tuple[Entry, ...]:
    """Return metadata with credentials that verify nobody, often several, among entries of any size."""
    entries = [_credential(rng) for _ in range(rng.choice((0, 1, 1, 2, 20)))]
    entries += [_entry(rng) for _ in range(rng.choice((0, 1, 3, 60)))]
    rng.shuffle(entries)
    return tuple(entries)


def odd_token(rng: Random) -> str:
    """Return a text in place of a JWT."""
    choice = rng.random()
    if choice < 0.2:
        return "".join(map(chr, (rng.randint(33, 126) for _ in range(rng.choice(SIZES)))))
    if choice < 0.3:
        return "." * rng.choice((1, 2, 3, 5_000))
    if choice < 0.4:
        return f"{_part(b'[' * 5_000)}.{_part(b'{}')}."
    parts = [json.dumps(rng.choice(HEADERS)).encode(), json.dumps(rng.choice(CLAIMS)).encode(), rng.randbytes(32)]
    if choice < 0.7:
        place = rng.randrange(3)
        parts[place] = changed(rng, parts[place])
    return ".".join(map(_part, parts))


def _credential(rng: Random) -> Entry:
    scheme = rng.choice(("Bearer ", "bearer ", "Bearer", "Bearer  ", "Basic ", ""))
    return rng.choice(NAMES[:2]), scheme + odd_token(rng)


def _entry(rng: Random) -> Entry:
    name = rng.choice((*NAMES, "x-" + "n" * rng.choice((1, 200, 8_000))))
    if rng.random() < 0.3:
        return f"{name}-bin", random_bytes(rng, 16_384)
    return name, rng.choice(("", " ", "~" * rng.choice(SIZES), "1, 2;q=x"))


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
