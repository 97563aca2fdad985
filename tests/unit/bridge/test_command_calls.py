from __future__ import annotations

from typing import Any, cast

import pytest

from distributor.bridge.command_calls import MAX_PENDING, MAX_PENDING_BYTES, CommandCalls, PendingCalls
from distributor.bridge.requests import Interrupt
from distributor.errors import InvalidArgument, ResourceExhausted


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


async def test_in_order_and_never_more_than_may_wait() -> None:
    calls: PendingCalls[int] = PendingCalls()
    for number in range(MAX_PENDING):
        calls.put(number, 10)
    with pytest.raises(
        ResourceExhausted, match="^the limit of 1,000 pending requests is reached; retry when some are answered$"
    ):
        calls.put(MAX_PENDING, 10)
    assert [await calls.get() for _ in range(2)] == [0, 1]
    calls.put(MAX_PENDING, 10)
    assert [await calls.get() for _ in range(MAX_PENDING - 1)] == list(range(2, MAX_PENDING + 1))


async def test_large_ones_count_for_more() -> None:
    calls: PendingCalls[str] = PendingCalls()
    for _ in range(4):
        calls.put("large", MAX_PENDING_BYTES // 4)
    with pytest.raises(ResourceExhausted, match="^the limit of 4 MiB of pending requests is reached; retry"):
        calls.put("small", 1)
    await calls.get()
    calls.put("small", 1)
