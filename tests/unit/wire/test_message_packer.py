from __future__ import annotations

import gzip
import threading

import pytest

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.wire import message_packer
from distributor.wire.compression import Compression, CorruptGzip, GzipTooLarge, compressed
from distributor.wire.message_packer import PLAIN, MessagePacker
from distributor.wire.transport import MAX_MESSAGE_BYTES

Sizes = list[tuple[int, int]]


def output(size: int) -> pb.ConnectRequest:
    return pb.ConnectRequest(output=[pb.Output(command_id="a", data=b"x" * size)])


def observed(threshold: int = 1_000) -> tuple[MessagePacker, Sizes, Sizes]:
    sent: Sizes = []
    received: Sizes = []
    packer = MessagePacker(
        Compression(threshold_bytes=threshold),
        lambda plain, packed: sent.append((plain, packed)),
        lambda plain, packed: received.append((plain, packed)),
    )
    return packer, sent, received


async def unpacked(packer: MessagePacker, message: pb.ConnectRequest) -> pb.ConnectRequest:
    plain = await packer.unpack(message, pb.ConnectRequest.FromString)
    assert isinstance(plain, pb.ConnectRequest)
    return plain


@pytest.mark.parametrize("size", [2_000, 100_000], ids=["on the loop", "in a thread"])
async def test_a_large_message_is_packed_and_observed_at_both_ends(size: int) -> None:
    packer, sent, received = observed()
    message = output(size)
    packed = await packer.pack(message)
    assert [field.name for field, _ in packed.ListFields()] == ["gzip"]
    assert await unpacked(packer, packed) == message
    assert sent == received == [(message.ByteSize(), len(packed.gzip))]


async def test_a_small_message_stays_as_it_is() -> None:
    packer, sent, _ = observed()
    message = output(900)
    assert await packer.pack(message) is message
    assert await unpacked(packer, message) is message
    assert not sent


async def test_the_threshold_applies_to_the_average_part() -> None:
    packer, _, _ = observed(threshold=1_000)
    message = output(10_000)
    assert await packer.pack(message, parts=11) is message
    assert (await packer.pack(message, parts=10)).gzip


async def test_a_message_that_hardly_shrinks_stays_plain_and_counts_as_it_is() -> None:
    packer, sent, _ = observed(threshold=10)
    message = output(20)
    assert await packer.pack(message) is message
    assert sent == [(message.ByteSize(), message.ByteSize())]


async def test_a_packer_that_is_off_packs_nothing_and_still_unpacks() -> None:
    packer, _, _ = observed()
    message = output(10_000)
    assert await PLAIN.pack(message) is message
    assert await unpacked(PLAIN, await packer.pack(message)) == message


async def test_large_messages_are_packed_and_unpacked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC's own compression would block the event loop."""
    threads: set[int] = set()

    def noted(data: bytes) -> bytes | None:
        threads.add(threading.get_ident())
        return compressed(data)

    def parse(data: bytes) -> pb.ConnectRequest:
        threads.add(threading.get_ident())
        return pb.ConnectRequest.FromString(data)

    monkeypatch.setattr(message_packer, "compressed", noted)
    packer, _, _ = observed()
    # Of many different bytes, so that it is large when compressed, too.
    message = pb.ConnectRequest(output=[pb.Output(data=bytes(range(256)) + str(n).encode() * 50) for n in range(2_000)])
    await packer.unpack(await packer.pack(message), parse)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_bomb_is_not_inflated_beyond_the_limit_of_a_message() -> None:
    bomb = pb.ConnectRequest(gzip=gzip.compress(bytes(MAX_MESSAGE_BYTES + 1)))
    assert len(bomb.gzip) < 50_000
    with pytest.raises(GzipTooLarge):
        await PLAIN.unpack(bomb, pb.ConnectRequest.FromString)


async def test_a_compressed_message_in_a_compressed_message_is_rejected() -> None:
    packer, _, _ = observed()
    nested = pb.ConnectRequest(gzip=b"x" * 10_000)
    with pytest.raises(CorruptGzip, match="in it"):
        await PLAIN.unpack(await packer.pack(nested), pb.ConnectRequest.FromString)
