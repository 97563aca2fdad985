from __future__ import annotations

import asyncio

from distributor.agent.process_output import FLUSH_BYTES, PAUSE_BYTES, Piece, ProcessOutput


async def test_a_little_output_is_handed_on_after_a_moment() -> None:
    output = ProcessOutput()
    output.add("stdout", b"a")
    output.add("stdout", b"b")
    output.add("stderr", b"c")
    assert await output.next() == [Piece("stdout", b"ab"), Piece("stderr", b"c")]


async def test_enough_output_is_handed_on_at_once() -> None:
    output = ProcessOutput()
    waiting = asyncio.create_task(output.next())
    await asyncio.sleep(0)
    output.add("stdout", b"x" * FLUSH_BYTES)
    for _ in range(5):
        await asyncio.sleep(0)
    assert waiting.done()


async def test_what_is_left_at_the_end_is_handed_on_and_then_nothing() -> None:
    output = ProcessOutput()
    output.add("stdout", b"last")
    output.close()
    assert await output.next() == [Piece("stdout", b"last")]
    assert await output.next() == []


async def test_the_pipes_are_not_read_while_the_buffer_is_full() -> None:
    pauses: list[bool] = []
    output = ProcessOutput()
    output.on_pause = pauses.append
    output.add("stdout", b"x" * PAUSE_BYTES)
    output.add("stdout", b"x")
    assert pauses == [True]
    await output.next()
    assert pauses == [True, False]
