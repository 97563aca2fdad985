from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from distributor.app import token_keys
from distributor.app.token_keys import REFETCH_SECONDS, RETRY_SECONDS, TokenKeys
from distributor.errors import ConfigurationError, Unauthenticated, Unavailable
from distributor.identity.jwks import MAX_JWKS_BYTES
from distributor.identity.token_keys import TokenKey, shared_key
from distributor.identity.tokens import NOTHING_REVOKED
from distributor.settings.tokens import TokenSettings
from tests.support.token_issuer import PEMS, PRIVATE, claims, jwk_of
from tests.support.waiting import PATIENCE_SECONDS, until


class Issuer:
    """Serves a key set, or whatever else a test wants."""

    def __init__(self) -> None:
        issuer = self
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def publish(self, *key_ids: str) -> None:
        """Serve the same key under these ids."""
        self.status, self.body = 200, json.dumps({"keys": [jwk_of("ES256", key_id) for key_id in key_ids]}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    served = Issuer()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


def keys_of(**settings: Any) -> TokenKeys:
    return TokenKeys(TokenSettings(**settings), NOTHING_REVOKED)


def token(key_id: str) -> str:
    return jwt.encode(claims(), PRIVATE["ES256"], algorithm="ES256", headers={"kid": key_id})


def shared_token(key: str) -> str:
    return jwt.encode(claims(), key, algorithm="HS256", headers={"kid": shared_key(key).key_id})


# Files


async def test_keys_in_files_apply_without_a_restart(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a" * 32)
    second.write_text("b" * 32)
    keys = keys_of(token_key_file=[first, second])
    for content in "ab":
        assert keys.verifier.verify(shared_token(content * 32)).subject == "alice"
    second.unlink()
    second.write_text("c" * 33)
    await keys.run_once(0.0)
    assert keys.verifier.verify(shared_token("c" * 33)).subject == "alice"
    assert keys.verifier.verify(shared_token("a" * 32)).subject == "alice"
    with pytest.raises(Unauthenticated):
        keys.verifier.verify(shared_token("b" * 32))


async def test_public_keys_in_files_apply_without_a_restart(tmp_path: Path) -> None:
    pems = dict(PEMS)
    path = tmp_path / "issuer.pem"
    path.write_bytes(pems["RS256.pem"])
    keys = keys_of(public_keys=[path])
    with pytest.raises(Unauthenticated):
        keys.verifier.verify(token("any"))
    path.write_bytes(pems["ES256.pem"])
    await keys.run_once(0.0)
    assert keys.verifier.verify(token("any")).subject == "alice"


@pytest.mark.parametrize("content", ["", "too short", None])
async def test_a_file_that_cannot_be_used_any_more_changes_nothing(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    path.write_text("a" * 32)
    keys = keys_of(token_key_file=[path])
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    for _ in range(2):
        await keys.run_once(0.0)
        assert keys.verifier.verify(shared_token("a" * 32)).subject == "alice"
    path.write_text("b" * 32)
    await keys.run_once(0.0)
    assert keys.verifier.verify(shared_token("b" * 32)).subject == "alice"


def test_at_start_a_file_must_be_usable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        keys_of(token_key_file=[tmp_path / "none"])


# A key set


async def test_a_key_set_is_fetched_at_start(issuer: Issuer) -> None:
    issuer.publish("one")
    keys = keys_of(jwks_url=issuer.url)
    await keys.start()
    assert keys.verifier.verify(token("one")).subject == "alice"


async def test_an_issuer_that_is_away_at_start_is_tried_again(issuer: Issuer) -> None:
    issuer.status = 503
    keys = keys_of(jwks_url=issuer.url)
    await keys.run_once(1_000.0)
    issuer.publish("one")
    await keys.run_once(1_000.0 + RETRY_SECONDS - 1)
    assert issuer.requests == 1
    await keys.run_once(1_000.0 + RETRY_SECONDS)
    assert keys.verifier.verify(token("one")).subject == "alice"


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b"", {}),
        (302, b"", {"Location": "/other"}),
        (200, b"<html>", {}),
        (200, b'{"keys": []}', {}),
        (200, b" " * (2 * MAX_JWKS_BYTES), {}),
    ],
)
async def test_the_keys_read_last_stay_in_use(
    issuer: Issuer, status: int, body: bytes, headers: dict[str, str]
) -> None:
    issuer.publish("one")
    keys = keys_of(jwks_url=issuer.url, jwks_interval=60.0)
    await keys.run_once(1_000.0)
    issuer.status, issuer.body, issuer.headers = status, body, headers
    await keys.run_once(1_060.0)
    assert issuer.requests == 2
    assert keys.verifier.verify(token("one")).subject == "alice"


async def test_a_key_that_is_withdrawn_verifies_no_more(issuer: Issuer) -> None:
    issuer.publish("one", "two")
    keys = keys_of(jwks_url=issuer.url, jwks_interval=60.0)
    await keys.run_once(1_000.0)
    old = token("one")
    assert keys.verifier.verify(old).subject == "alice"
    issuer.publish("two")
    await keys.run_once(1_059.0)
    assert keys.verifier.verify(old).subject == "alice"
    await keys.run_once(1_060.0)
    with pytest.raises(Unavailable):
        keys.verifier.verify(old)
    with pytest.raises(Unauthenticated):
        keys.verifier.verify(old)


async def test_an_unknown_key_is_fetched_at_once_but_not_for_each_stranger(issuer: Issuer) -> None:
    now = 1_000.0
    issuer.publish("one")
    keys = TokenKeys(TokenSettings(jwks_url=issuer.url), NOTHING_REVOKED, lambda: now)
    await keys.start()
    issuer.publish("one", "two")
    running = asyncio.create_task(keys.run())
    with pytest.raises(Unavailable):
        keys.verifier.verify(token("two"))
    await until(lambda: len(keys.verifier.keys.keys) == 2)
    running.cancel()
    assert keys.verifier.verify(token("two")).subject == "alice"
    for number in range(10):
        with pytest.raises(Unauthenticated):
            keys.verifier.verify(token(f"stranger {number}"))
    assert issuer.requests == 2
    now += REFETCH_SECONDS
    with pytest.raises(Unavailable):
        keys.verifier.verify(token("stranger"))


async def test_an_issuer_that_is_slow_does_not_delay_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that never answers: its fetch waits in a thread."""
    fetching, over = threading.Event(), threading.Event()

    def fetch(_: str) -> tuple[TokenKey, ...]:
        fetching.set()
        over.wait(PATIENCE_SECONDS)
        raise Unavailable("too late")

    monkeypatch.setattr(token_keys, "fetched_keys", fetch)
    monkeypatch.setattr(token_keys, "FILE_CHECK_SECONDS", 0.01)
    path = tmp_path / "key"
    path.write_text("a" * 32)
    keys = keys_of(token_key_file=[path], jwks_url="http://127.0.0.1:1/keys")
    running = asyncio.create_task(keys.run())
    try:
        await until(fetching.is_set)
        path.write_text("b" * 33)
        await until(lambda: keys.verifier.keys.keys[0].key == b"b" * 33)
    finally:
        over.set()
        running.cancel()
        await asyncio.wait([running])


def test_without_a_key_set_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        keys_of(token_key="k" * 32).verifier.verify(token("one"))


@pytest.mark.parametrize(
    "url", ["http://issuer.example.org/keys", "ftp://127.0.0.1/", "https://", "https://a:b@example.org/", "file:///x"]
)
def test_urls_whose_keys_could_be_replaced_on_the_way(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        TokenSettings(jwks_url=url)


def test_issuer_audience_and_leeway_are_what_a_token_must_fit() -> None:
    fits = {"token_key": "k" * 32, "token_issuer": "us", "token_audience": "it", "token_leeway": 100.0}
    late = jwt.encode(claims(iss="us", aud="it", lifetime=-50), "k" * 32, algorithm="HS256")
    assert keys_of(**fits).verifier.verify(late).subject == "alice"
    for changes in ({"token_issuer": "them"}, {"token_audience": "that"}, {"token_leeway": 10.0}):
        with pytest.raises(Unauthenticated):
            keys_of(**fits | changes).verifier.verify(late)
