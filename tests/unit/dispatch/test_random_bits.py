from __future__ import annotations

import secrets

import pytest

from distributor.dispatch.random_bits import BLOCK_BYTES, RandomBits


def test_each_part_of_a_block_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [bytes([number]) * BLOCK_BYTES for number in (2, 1)]
    monkeypatch.setattr(secrets, "token_bytes", lambda size: blocks.pop()[:size])
    bits = RandomBits()
    taken = [bits.take() for _ in range(2 * BLOCK_BYTES // 8)]
    assert taken == [0x0101010101010101] * (BLOCK_BYTES // 8) + [0x0202020202020202] * (BLOCK_BYTES // 8)
    assert blocks == []


def test_no_two_are_the_same() -> None:
    bits = RandomBits()
    assert len({bits.take() for _ in range(1_000)}) == 1_000
