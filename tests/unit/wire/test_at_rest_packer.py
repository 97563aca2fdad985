from __future__ import annotations

import base64
import gzip
import random

import pytest

from distributor.wire.at_rest_packer import STORED_PLAIN, AtRestObservers, AtRestPacker
from distributor.wire.compression import Compression

TEXT = "the quick brown fox jumps over the lazy dog " * 100
RANDOM = random.Random(1).randbytes(4_000)
SMALL = "x" * 999


class Observed:
    """A packer with a threshold of 1,000 bytes, and what it has counted."""

    def __init__(self) -> None:
        self.sizes: list[tuple[str, int, int]] = []
        self.packer = AtRestPacker(
            Compression(threshold_bytes=1_000),
            AtRestObservers(
                lambda plain, packed: self.sizes.append(("command", plain, packed)),
                lambda plain, packed: self.sizes.append(("result", plain, packed)),
                lambda plain, packed: self.sizes.append(("output", plain, packed)),
            ),
        )


@pytest.fixture
def observed() -> Observed:
    return Observed()


def test_a_large_command_is_gzip(observed: Observed) -> None:
    packed = observed.packer.command(TEXT.encode())
    assert gzip.decompress(packed) == TEXT.encode()
    assert observed.sizes == [("command", len(TEXT), len(packed))]


def test_the_large_data_of_a_result_is_gzip_in_base64(observed: Observed) -> None:
    text = f'"{TEXT} é"'
    packed = observed.packer.result_data(text)
    assert gzip.decompress(base64.b64decode(packed)).decode() == text
    assert observed.sizes == [("result", len(text.encode()), len(packed))]


def test_large_output_is_gzip(observed: Observed) -> None:
    packed = observed.packer.output(TEXT.encode())
    assert gzip.decompress(packed) == TEXT.encode()
    assert observed.sizes == [("output", len(TEXT), len(packed))]


def test_small_items_stay_plain_and_are_not_counted(observed: Observed) -> None:
    assert observed.packer.command(SMALL.encode()) == SMALL.encode()
    assert observed.packer.result_data(SMALL) == ""
    assert observed.packer.output(SMALL.encode()) == b""
    assert not observed.sizes


def test_items_that_hardly_shrink_stay_plain_and_count_as_they_are(observed: Observed) -> None:
    assert observed.packer.command(RANDOM) == RANDOM
    assert observed.packer.output(RANDOM) == b""
    # gzip saves a quarter of these digits, which base64 takes back.
    digits = base64.b64encode(RANDOM).decode()
    assert observed.packer.result_data(digits) == ""
    assert observed.sizes == [
        ("command", len(RANDOM), len(RANDOM)),
        ("output", len(RANDOM), len(RANDOM)),
        ("result", len(digits), len(digits)),
    ]


def test_a_packer_that_is_off_leaves_everything_plain() -> None:
    assert STORED_PLAIN.command(TEXT.encode()) == TEXT.encode()
    assert STORED_PLAIN.result_data(TEXT) == ""
    assert STORED_PLAIN.output(TEXT.encode()) == b""
