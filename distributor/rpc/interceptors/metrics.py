"""Counts and times calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from distributor.observability.metrics import Metrics
from distributor.rpc.interceptors.wrapping import Context, short_name

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class MeasuredCall:
    """Records method, code and duration of the call inside its `with` block, which must enclose what sets the code."""

    __slots__ = ("_begun", "_context", "_method", "_metrics")

    def __init__(self, metrics: Metrics, method: str, context: Context) -> None:
        self._metrics = metrics
        self._method = short_name(method)
        self._context = context
        self._begun = time.perf_counter()

    def __enter__(self) -> None:
        """Start with construction."""

    def __exit__(self, _: object, error: BaseException | None, __: Any) -> None:
        # The caller gave up and got no code from the server.
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        code = "CANCELLED" if cancelled else _code(self._context)
        self._metrics.rpc_finished(self._method, code, time.perf_counter() - self._begun)


def _code(context: Context) -> str:
    code = context.code()
    return _NAMES.get(code if isinstance(code, int) else code.value[0], "UNKNOWN") if code is not None else "OK"
