"""Questions and answers between two processes, here of one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from distributor.errors import PermissionDenied, Unavailable
from distributor.processes.process_channel import Answer, ProcessChannel
from tests.support.serving_agent import background


@asynccontextmanager
async def channels(**answers: Answer) -> AsyncIterator[tuple[ProcessChannel, ProcessChannel]]:
    """Two ends, of which the second answers."""
    one, other = socket.socketpair()
    asking, answering = ProcessChannel(one, {}), ProcessChannel(other, answers)
    await asking.open()
    await answering.open()
    async with background(asking.run()), background(answering.run()):
        yield asking, answering


async def test_answers_come_in_any_order() -> None:
    later = asyncio.Event()

    async def slow(details: dict[str, Any]) -> Any:
        await later.wait()
        return details["value"]

    async def quick(details: dict[str, Any]) -> Any:
        return [details["value"], float("inf")]

    async with channels(slow=slow, quick=quick) as (asking, _):
        waiting = asyncio.create_task(asking.ask("slow", value=1))
        assert await asking.ask("quick", value="ü\n") == ["ü\n", float("inf")]
        later.set()
        assert await waiting == 1


async def test_an_error_arrives_as_it_was_raised() -> None:
    async def refuse(_: dict[str, Any]) -> Any:
        raise PermissionDenied("no", reason="NOT_GRANTED", field="x", metadata={"a": "b"}, retry_after_seconds=2.0)

    async with channels(enter=refuse) as (asking, _):
        with pytest.raises(PermissionDenied, match="^no$") as caught:
            await asking.ask("enter")
    error = caught.value
    assert (error.reason, error.field, error.metadata, error.retry_after_seconds) == (
        "NOT_GRANTED",
        "x",
        {"a": "b"},
        2.0,
    )


async def test_a_question_fails_when_the_other_process_ends() -> None:
    async def never(_: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    one, other = socket.socketpair()
    asking = ProcessChannel(one, {"never": never})
    await asking.open()
    async with background(asking.run()) as reading:
        asked = asyncio.create_task(asking.ask("anything"))
        await asyncio.sleep(0)
        other.close()
        with pytest.raises(Unavailable, match="has ended"):
            await asked
        await reading
        with pytest.raises(Unavailable, match="has ended"):
            await asking.ask("anything")
        asking.tell("anything")
