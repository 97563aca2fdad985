"""Params against the schema of their type: the server accepts exactly what the schema does."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from jsonschema import Draft202012Validator

from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from tests.fuzz.generators.call_metadata import Entry
from tests.fuzz.generators.json_documents import JsonDocuments, misplaced
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.fuzz.params_schema import SCHEMA, TYPE
from tests.fuzz.target import REPLY_SECONDS, Fault
from tests.support.received_errors import told

AGENT: Final = "never-attached"
"""One that attaches would say which types it knows."""
NOT_BY_SCHEMA: Final = frozenset({"INVALID_PARAMS", "PARAMS_TOO_DEEP", "PARAMS_TOO_LARGE", "PARAMS_TOO_COMPLEX"})
"""Reasons for which params are refused whatever their schema says."""


class Params:
    """Queues commands of the registered type."""

    name = "params"
    workers = 1

    def __init__(self, channel: grpc.aio.Channel, caller: tuple[Entry, ...]) -> None:
        self._commands: Any = CommandServiceStub(channel)
        self._caller = caller
        self._documents = JsonDocuments(SCHEMA, Vocabulary())
        self._validator = Draft202012Validator(SCHEMA)

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Queue one command. Raises Fault if the server judges otherwise than the schema."""
        document = self._documents.sound(rng, SCHEMA)
        for _ in range(0 if sound else rng.choice((1, 1, 2))):
            document = misplaced(rng, document)
        params = _struct(document)
        if params is None:
            return
        request = pb.QueueCommandRequest()
        request.command.agent_id, request.command.type = AGENT, TYPE
        request.command.params.CopyFrom(params)
        refusal = await self._refusal(request)
        if refusal in NOT_BY_SCHEMA or refusal == "QUEUE_FULL":
            return
        valid = self._is_valid(params)
        if valid != (not refusal):
            raise Fault(
                f"params: {refusal or 'accepted'}, but by their schema they are {'' if valid else 'in'}valid", document
            )

    def _is_valid(self, params: Struct) -> bool:
        """Whether params fit the schema as they arrive: every number is a double. NaN and infinities are not JSON."""
        try:
            return self._validator.is_valid(json_format.MessageToDict(params))
        except ValueError:
            return False

    async def _refusal(self, request: pb.QueueCommandRequest) -> str:
        """The reason for which the command is refused, empty if it is queued."""
        try:
            await self._commands.QueueCommand(request, metadata=self._caller, timeout=REPLY_SECONDS)
        except grpc.aio.AioRpcError as error:
            refused = told(error.code(), error.details() or "", error.trailing_metadata())
            return refused.reason or refused.code
        return ""


def _struct(document: Any) -> Struct | None:
    """The document as params, None if they cannot carry it."""
    if not isinstance(document, dict):
        return None
    try:
        return json_format.ParseDict(document, Struct())
    except (json_format.ParseError, ValueError, OverflowError):
        return None
