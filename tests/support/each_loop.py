"""Runs a coroutine test on asyncio's own loop and on uvloop, each in a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.support.waiting import PATIENCE_SECONDS


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Parametrize `test` by the kind of loop. It ends with all tasks and connections of its loop gone."""

    @functools.wraps(test)
    async def threaded(new_loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        def run() -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(asyncio.wait_for(test(**fixtures), 2 * PATIENCE_SECONDS))

        await asyncio.to_thread(run)

    signature = inspect.signature(test)
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    threaded.__signature__ = signature.replace(parameters=[*parameters, new_loop])  # type: ignore[attr-defined]
    loops = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
    marked: Callable[..., Coroutine[Any, Any, None]] = pytest.mark.parametrize(
        "new_loop", loops, ids=["asyncio", "uvloop"]
    )(threaded)
    return marked
