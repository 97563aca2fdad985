"""The generators repeat what they make for the same seed, and make what their names say."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from distributor.bridge import requests
from distributor.cli.command_agent import main as command_agent
from distributor.errors import InvalidArgument
from distributor.v1 import agent_gateway_pb2 as pb
from tests.fuzz.generators.call_metadata import odd_metadata, odd_token
from tests.fuzz.generators.command_lines import odd_command_line
from tests.fuzz.generators.json_documents import JsonDocuments
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.fuzz.generators.wire_messages import WireMessages
from tests.fuzz.services import all_rpcs
from tests.fuzz.targets.dashboards import SCHEMA

MESSAGES = WireMessages(Vocabulary())
DOCUMENTS = JsonDocuments(SCHEMA, Vocabulary())
CLIENT_MESSAGE = SCHEMA["$defs"]["clientMessage"]


def made(seed: int) -> list[Any]:
    rng = Random(seed)
    return [
        MESSAGES.frame(rng, pb.ConnectRequest),
        DOCUMENTS.odd_text(rng, CLIENT_MESSAGE),
        odd_metadata(rng),
        odd_token(rng),
        odd_command_line(rng, command_agent),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_repeats_what_it_made(seed: int) -> None:
    assert made(seed) == made(seed)


def test_some_frames_are_messages_and_some_are_not() -> None:
    rng, broken = Random(1), 0
    for _ in range(200):
        try:
            pb.ConnectRequest.FromString(MESSAGES.frame(rng, pb.ConnectRequest))
        except DecodeError:
            broken += 1
    assert 20 < broken < 180


@pytest.mark.parametrize("of", CLIENT_MESSAGE["oneOf"], ids=lambda of: of["$ref"].rpartition("/")[2])
def test_the_bridge_accepts_some_sound_documents_of_every_message(of: dict[str, Any]) -> None:
    rng, accepted = Random(1), 0
    for _ in range(50):
        try:
            requests.parse(json.loads(json.dumps(DOCUMENTS.sound(rng, of))))
        except InvalidArgument:
            continue
        accepted += 1
    assert accepted


def test_every_rpc_of_the_contract_is_found() -> None:
    paths = {rpc.path for rpc in all_rpcs()}
    assert {"/distributor.v1.CommandService/QueueCommand", "/distributor.v1.AgentGatewayService/Connect"} <= paths
