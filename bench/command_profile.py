"""Counts what one command makes the server and Valkey do: function calls, wake-ups, system calls."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from bench.cluster import Cluster
from bench.findings import Finding
from bench.proc_files import waits
from bench.server_metrics import FunctionCalls, function_calls
from bench.system_calls import SystemCalls
from bench.valkey_calls import FUNCTION_CALL, ValkeyCalls, inside_functions, reset_valkey_calls, valkey_calls


class CommandProfile:
    """Counts inside this async context manager. Slows the server, so measure times outside.

    Afterwards, `findings()` and `details()` give the counts per command.
    """

    def __init__(self, cluster: Cluster, commands: int) -> None:
        self._cluster = cluster
        self._commands = commands
        self._server = cluster.pids["server"]
        self._system_calls = SystemCalls(self._server)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._system_calls)
        self._functions = await function_calls(self._cluster.http_address)
        await reset_valkey_calls(self._cluster)
        self._waits = waits(self._server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits = waits(self._server) - self._waits
        await self._stack.aclose()
        if error is None:
            self._valkey_calls = await valkey_calls(self._cluster)
            now = await function_calls(self._cluster.http_address)
            self._functions = {
                name: calls.since(self._functions.get(name, FunctionCalls())) for name, calls in now.items()
            }

    def findings(self) -> list[Finding]:
        """Return the sums per command."""
        functions = self._valkey_calls.get(FUNCTION_CALL, ValkeyCalls(0, 0))
        findings = [
            Finding("function calls", self._per_command(functions.calls), "per command"),
            Finding("functions in Valkey", self._per_command(functions.microseconds), "µs/command"),
            Finding("commands inside them", self._per_command(inside_functions(self._valkey_calls)), "µs/command"),
            Finding("server wake-ups", self._per_command(self._waits.total()), "per command"),
        ]
        if "all" in self._system_calls.counts:
            system_calls = self._per_command(self._system_calls.counts["all"])
            findings.append(Finding("server system calls", system_calls, "per command"))
        return findings

    def details(self) -> dict[str, Any]:
        """Return the counts by function, Valkey command, thread and system call."""
        return {
            "commands": self._commands,
            "functions": {
                name: {
                    "round_trips_per_command": self._per_command(calls.round_trips),
                    "items_per_round_trip": calls.items / calls.round_trips,
                    "milliseconds_per_round_trip": calls.seconds / calls.round_trips * 1_000,
                }
                for name, calls in self._functions.items()
                if calls.round_trips
            },
            "valkey_commands": {
                name: {
                    "calls_per_command": self._per_command(calls.calls),
                    "microseconds_per_command": self._per_command(calls.microseconds),
                }
                for name, calls in sorted(self._valkey_calls.items(), key=lambda item: -item[1].microseconds)
            },
            "server_wakeups_per_command": {name: self._per_command(count) for name, count in self._waits.items()},
            "server_system_calls_per_command": {
                name: self._per_command(count) for name, count in self._system_calls.counts.items()
            },
        }

    def _per_command(self, count: float) -> float:
        return count / self._commands
