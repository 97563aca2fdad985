"""Every RPC but the agent stream, with frames that are no messages, odd messages, and odd metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import grpc

from distributor.v1 import command_service_pb2 as pb
from tests.fuzz.generators.call_metadata import Entry, odd_metadata
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.fuzz.generators.wire_messages import WireMessages
from tests.fuzz.services import Rpc, all_rpcs
from tests.fuzz.target import REPLY_SECONDS, Fault

WATCH_SECONDS: Final = 0.1
FAULTS: Final = frozenset({"UNKNOWN", "INTERNAL", "UNIMPLEMENTED", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""Codes that no caller's message may cause."""
SOUND: Final = frozenset({"QueueCommand", "GetCommand", "GetResult", "ListCommands", "ListAgents", "GetAgent"})
"""Calls that the same load without faults makes."""
HARMFUL: Final = ("Stop", "Revoke")
"""Beginnings of the names of calls that would end the well-behaved agent, too, as they should."""


class UnaryCalls:
    """Calls with one request, unary or with a stream of answers."""

    name = "calls"
    workers = 4

    def __init__(
        self, channel: grpc.aio.Channel, vocabulary: Vocabulary, caller: Sequence[Entry], narrow: Sequence[Entry]
    ) -> None:
        """`caller` is the metadata of a caller who may do anything, `narrow` of one with grants for fuzzed agents."""
        self._channel = channel
        self._vocabulary = vocabulary
        self._messages = WireMessages(vocabulary)
        self._caller = tuple(caller)
        self._narrow = tuple(narrow)
        self._rpcs = [rpc for rpc in all_rpcs() if not rpc.client_streams]
        self._sound = [rpc for rpc in self._rpcs if rpc.path.rpartition("/")[2] in SOUND]

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Make one call. Raises Fault unless its status is one that a caller can cause."""
        rpc = rng.choice(self._sound if sound else self._rpcs)
        if sound:
            frame, metadata = self._messages.sound(rng, rpc.request).SerializeToString(), self._caller
        else:
            frame = self._messages.frame(rng, rpc.request)
            harmful = rpc.path.rpartition("/")[2].startswith(HARMFUL)
            metadata = self._narrow if harmful or rng.random() < 0.25 else self._caller
            metadata = odd_metadata(rng) if rng.random() < 0.25 else metadata
        try:
            await self._call(rpc, frame, metadata)
        except grpc.aio.AioRpcError as error:
            # gRPC itself refuses metadata over its limit, before any handler, with codes of its own.
            if error.code().name in FAULTS and not _too_large(metadata):
                raise Fault(f"{rpc.path}: {error.code().name}: {error.details()}", (frame, metadata)) from error
        except ValueError:
            # This side refuses metadata that HTTP/2 cannot carry.
            return

    async def _call(self, rpc: Rpc, frame: bytes, metadata: tuple[Entry, ...]) -> None:
        if rpc.server_streams:
            await self._watch(rpc, frame, metadata)
            return
        call: Any = self._channel.unary_unary(rpc.path)
        answer = await call(frame, metadata=metadata, timeout=REPLY_SECONDS)
        response = rpc.response.FromString(answer)
        if isinstance(response, pb.QueueCommandResponse):
            self._vocabulary.learn(response.command.command_id)

    async def _watch(self, rpc: Rpc, frame: bytes, metadata: tuple[Entry, ...]) -> None:
        method: Any = self._channel.unary_stream(rpc.path)
        call = method(frame, metadata=metadata)
        ended = asyncio.ensure_future(call.code())
        done, _ = await asyncio.wait([ended], timeout=WATCH_SECONDS)
        if not done:
            call.cancel()
        code = await ended
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details())


def _too_large(metadata: Sequence[Entry]) -> bool:
    return sum(len(name) + len(value) + 32 for name, value in metadata) > 8_000
