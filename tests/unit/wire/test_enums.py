"""Every value of the wire's enums has one word, and every word one value."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from distributor.model.agent import AgentStatus
from distributor.model.agent_report import RefusalKind
from distributor.model.command import OfflinePolicy
from distributor.model.delivery import OutputStream
from distributor.model.lifecycle import CommandStatus
from distributor.v1 import agent_gateway_pb2, command_pb2, command_service_pb2
from distributor.wire import enums

TABLES: list[tuple[type[StrEnum], Any, Mapping[Any, int], Mapping[Any, Any]]] = [
    (CommandStatus, command_pb2.CommandStatus, enums.STATUS_TO_WIRE, enums.STATUS_FROM_WIRE),
    (AgentStatus, command_service_pb2.AgentStatus, enums.AGENT_STATUS_TO_WIRE, enums.AGENT_STATUS_FROM_WIRE),
    (OfflinePolicy, command_pb2.OfflinePolicy, enums.OFFLINE_TO_WIRE, enums.OFFLINE_FROM_WIRE),
    (RefusalKind, agent_gateway_pb2.RefusalCode, enums.REFUSAL_TO_WIRE, enums.REFUSAL_FROM_WIRE),
    (OutputStream, command_pb2.OutputStream, enums.STREAM_TO_WIRE, enums.STREAM_FROM_WIRE),
]


@pytest.mark.parametrize(("words", "wire", "to_wire", "from_wire"), TABLES)
def test_every_value_maps_both_ways(
    words: type[StrEnum], wire: Any, to_wire: Mapping[Any, int], from_wire: Mapping[int, Any]
) -> None:
    specified = {number for number in wire.values() if number}
    assert set(to_wire) == set(words)
    assert set(to_wire.values()) == specified
    assert {number: word for number, word in from_wire.items() if number} == {to_wire[word]: word for word in words}


@pytest.mark.parametrize(("words", "wire", "to_wire", "from_wire"), TABLES)
def test_words_are_the_names_of_the_wire(
    words: type[StrEnum], wire: Any, to_wire: Mapping[Any, int], from_wire: Mapping[int, Any]
) -> None:
    for word in words:
        assert wire.Name(to_wire[word]).lower().endswith(f"_{word.value}")


def test_only_the_offline_policy_has_a_default() -> None:
    assert enums.OFFLINE_FROM_WIRE[command_pb2.OFFLINE_POLICY_UNSPECIFIED] is OfflinePolicy.QUEUE
    assert all(0 not in from_wire for _, _, _, from_wire in TABLES if from_wire is not enums.OFFLINE_FROM_WIRE)
