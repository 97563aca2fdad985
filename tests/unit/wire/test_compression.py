from __future__ import annotations

import gzip
import random
import zlib

import pytest

from distributor.v1 import command_pb2
from distributor.wire.compression import CorruptGzip, GzipTooLarge, compressed, decompressed, is_gzip

TEXT = b"the quick brown fox jumps over the lazy dog\n" * 200


def test_what_was_compressed_comes_back() -> None:
    packed = compressed(TEXT)
    assert packed is not None
    assert is_gzip(packed)
    assert len(packed) < len(TEXT) / 10
    assert decompressed(packed, len(TEXT)) == TEXT


def test_other_programs_read_it_with_any_gzip() -> None:
    packed = compressed(TEXT)
    assert packed is not None
    assert gzip.decompress(packed) == TEXT


def test_other_programs_may_write_it() -> None:
    assert decompressed(gzip.compress(TEXT, 9), len(TEXT)) == TEXT


@pytest.mark.parametrize("data", [b"", b"short", random.Random(1).randbytes(10_000)], ids=["empty", "short", "random"])
def test_data_that_hardly_shrinks_stays_plain(data: bytes) -> None:
    assert compressed(data) is None


def test_a_failing_compressor_leaves_the_data_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> object:
        raise zlib.error("out of memory")

    monkeypatch.setattr(zlib, "compressobj", fail)
    assert compressed(TEXT) is None


def test_the_limit_is_the_size_when_decompressed() -> None:
    packed = gzip.compress(TEXT)
    with pytest.raises(GzipTooLarge, match="more than 8,799 bytes"):
        decompressed(packed, len(TEXT) - 1)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (gzip.compress(TEXT)[:-1], "cut short"),
        (gzip.compress(TEXT) + b"more", "data follows"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "invalid gzip data"),
        (b"\x1f\x8b" + bytes(20), "invalid gzip data"),
        (TEXT, "invalid gzip data"),
        (b"", "cut short"),
    ],
)
def test_broken_data(data: bytes, problem: str) -> None:
    with pytest.raises(CorruptGzip, match=problem):
        decompressed(data, len(TEXT))


def test_no_stored_command_begins_like_gzip() -> None:
    """A protobuf message begins with a tag, and 0x1f is the tag of field 3 with wire type 7, which does not exist."""
    for number in range(1, 32):
        for wire_type in range(6):
            assert (number << 3 | wire_type) != 0x1F
    assert not is_gzip(command_pb2.Command(command_id="a", agent_id="b", type="T").SerializeToString())
