from __future__ import annotations

from typing import Any, cast

import pytest

from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.requests import Interrupt
from distributor.errors import InvalidArgument


class Client:
    """A CommandClient that is refused by the server."""

    def __init__(self, refusal: InvalidArgument) -> None:
        self._refusal = refusal

    async def cancel(self, command_id: str, reason: str) -> None:
        raise self._refusal


@pytest.mark.parametrize(
    ("field", "message", "their_field", "their_message"),
    [
        ("command.agent_id", "command.agent_id must be 1 to 128 …", "agentId", "agentId must be 1 to 128 …"),
        ("command_id", "command_id must be a command id", "commandId", "commandId must be a command id"),
        ("command.params.argv", "command.params.argv is empty", "params.argv", "params.argv is empty"),
        ("command.type", "the agent has no handler for it", "commandType", "the agent has no handler for it"),
        ("", "it is too large", "", "it is too large"),
    ],
)
async def test_refusals_are_in_the_words_of_dashboards(
    field: str, message: str, their_field: str, their_message: str
) -> None:
    calls = CommandCalls(cast(Any, Client(InvalidArgument(message, field=field))))
    with pytest.raises(InvalidArgument) as caught:
        await calls.cancel(Interrupt("1", "c", ""))
    assert (caught.value.field, caught.value.message) == (their_field, their_message)
