from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Callable

import pytest

from distributor.errors import DistributorError
from distributor.model.delivery import Claim, ClaimedCommand
from distributor.store import stored_form
from distributor.store.stored_form import (
    MAX_PLAIN_BYTES,
    plain_command,
    plain_data,
    plain_output,
    read_command,
    unpacked_claims,
)
from distributor.wire import compression

PLAIN = b"\x0a\x01a" + b"text " * 1_000
BOMB = gzip.compress(bytes(MAX_PLAIN_BYTES + 1))


def test_both_forms_of_a_command_are_read() -> None:
    assert plain_command(PLAIN) == PLAIN
    assert plain_command(gzip.compress(PLAIN)) == PLAIN


@pytest.mark.parametrize("stored", [BOMB, gzip.compress(PLAIN)[:-1], b"\x1f\x8b"], ids=["bomb", "cut", "magic"])
def test_a_command_that_cannot_be_decompressed_stays_as_it_is(stored: bytes) -> None:
    assert plain_command(stored) == stored


def test_the_data_of_a_result() -> None:
    assert plain_data(base64.b64encode(gzip.compress(b'{"a":[1]}')).decode()) == {"a": [1]}


@pytest.mark.parametrize(
    "packed",
    [base64.b64encode(data).decode() for data in (BOMB, b"no gzip", gzip.compress(b"{no json"))] + ["no base64", "é"],
    ids=["bomb", "no gzip", "no json", "no base64", "no ascii"],
)
def test_data_that_cannot_be_read_is_an_error_of_the_store(packed: str) -> None:
    with pytest.raises(DistributorError, match="the stored result cannot be read") as raised:
        plain_data(packed)
    assert raised.value.reason == "STORE_ERROR"


def test_output_must_have_the_size_it_names() -> None:
    packed = gzip.compress(PLAIN)
    assert plain_output(packed, len(PLAIN)) == PLAIN
    assert plain_output(packed, len(PLAIN) - 1) is None
    assert plain_output(packed, len(PLAIN) + 1) is None
    assert plain_output(packed, 0) is None
    assert plain_output(BOMB, MAX_PLAIN_BYTES + 1) is None


def claimed(*encoded: bytes) -> list[Claim]:
    return [Claim("agent", 1, "lease", 0, False, [ClaimedCommand("id", 1, one) for one in encoded], 0)]


async def test_claims_are_read_in_both_forms() -> None:
    unpacking = unpacked_claims(claimed(PLAIN, gzip.compress(PLAIN), BOMB))
    assert unpacking is not None
    (read,) = await unpacking
    assert [one.encoded for one in read.commands] == [PLAIN, PLAIN, BOMB]
    assert unpacked_claims(claimed(PLAIN, PLAIN)) is None


@pytest.mark.parametrize("data", [PLAIN, bytes(range(256)) * 400])
async def test_large_commands_are_decompressed_in_a_thread(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    threads: list[int] = []
    decompressed: Callable[[bytes, int], bytes] = compression.decompressed

    def noted(packed: bytes, max_bytes: int) -> bytes:
        threads.append(threading.get_ident())
        return decompressed(packed, max_bytes)

    monkeypatch.setattr(stored_form, "decompressed", noted)
    packed = gzip.compress(data, 0)
    assert await read_command(packed) == data
    unpacking = unpacked_claims(claimed(packed))
    assert unpacking is not None
    assert (await unpacking)[0].commands[0].encoded == data
    assert len(threads) == 2
    assert threading.get_ident() not in threads
