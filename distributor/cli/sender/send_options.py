"""The options of `send`, checked together before anything is queued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import click

from distributor.cli.sender.arguments import merged_params
from distributor.cli.sender.input_lines import read_lines
from distributor.model.command import OfflinePolicy
from distributor.model.json_pointer import pointer_to
from distributor.model.queueing import CommandRequest

MAX_COMMANDS: Final = 100_000
MAX_FOLLOWED: Final = 200
"""Commands whose output can be followed at once; each needs a stream of its own."""


@dataclass(frozen=True, slots=True)
class WaitOptions:
    """Whether and how to wait for the commands to end."""

    wait: bool = False
    follow: bool = False
    timeout: float | None = None
    passthrough_exit_code: bool = False
    hold_output: bool | None = None
    """None: only if exactly one command is followed."""

    def holds_output(self, count: int) -> bool:
        """Whether to slow down `count` commands instead of losing their output."""
        return self.follow and (count == 1 if self.hold_output is None else self.hold_output)

    @property
    def waits(self) -> bool:
        """Whether to wait at all."""
        return self.wait or self.follow

    def check(self, count: int, output: str) -> None:
        """Raise UsageError if the options do not fit together for `count` commands in the format `output`."""
        if self.timeout is not None and not self.waits:
            raise click.UsageError("--timeout needs --wait or --follow; --time-limit bounds the run")
        if self.passthrough_exit_code and not self.waits:
            raise click.UsageError("--passthrough-exit-code needs --wait or --follow")
        if self.passthrough_exit_code and count != 1:
            raise click.UsageError(f"--passthrough-exit-code needs exactly one command, not {count:,}")
        if self.hold_output is not None and not self.follow:
            raise click.UsageError("--hold-output and --no-hold-output need --follow")
        if self.follow and count > MAX_FOLLOWED:
            raise click.UsageError(
                f"at most {MAX_FOLLOWED} commands can be followed at once, not {count:,}; --wait takes more"
            )
        if self.follow and output == "json":
            raise click.UsageError("output is shown live: use -o jsonl or -o table, not json")


@dataclass(frozen=True, slots=True)
class SendOptions:
    """The options of `send`. None means the server's default; lines of `input` override options."""

    agent: Sequence[str]
    type: str | None
    params: Sequence[tuple[str, str]]
    params_json: Sequence[dict[str, Any]]
    secret_params: Sequence[tuple[str, str]]
    argv: Sequence[str]
    input: IO[bytes] | None
    repeat: int
    priority: int | None
    time_limit: float | None
    idle_limit: float | None
    queue_ttl: float | None
    offline: str | None
    slots: int | None
    idempotency_key: str | None
    max_runs: int | None
    max_runs_for: Sequence[tuple[str, int]]

    def requests(self) -> list[CommandRequest]:
        """The commands to queue. Raises UsageError."""
        options = self._given()
        lines = list(self._lines())
        drafts = [options | line | {"agent_id": agent_id} for line in lines for agent_id in self._agents_of(line)]
        if any("type" not in draft for draft in drafts):
            raise click.UsageError("Missing option '--type', or -- PROGRAM.")
        self._check_count(len(drafts) * self.repeat)
        return [request for draft in drafts for request in [CommandRequest(**draft)] * self.repeat]

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The fields in each line of --input; one empty line without --input."""
        if self.input is None:
            yield {}
            return
        for number, line in read_lines(self.input):
            if self.argv and line.get("type", "EXEC") != "EXEC":
                raise click.UsageError(f"--input line {number} is {line['type']}, but only EXEC takes a program to run")
            if self.argv and "params" in line:
                raise click.UsageError(f"--input line {number} has params, which a program to run excludes")
            if self.secret_params and ("params" in line or "secret_params" in line):
                raise click.UsageError(f"--input line {number} has params, which --secret-param excludes")
            yield line

    def _check_count(self, count: int) -> None:
        if not count:
            raise click.UsageError("--input has no commands")
        if count > MAX_COMMANDS:
            raise click.UsageError(f"one call queues at most {MAX_COMMANDS:,} commands, not {count:,}")
        if self.idempotency_key and count != 1:
            raise click.UsageError(f"--idempotency-key needs exactly one command, not {count:,}")

    def _agents_of(self, line: dict[str, Any]) -> Sequence[str]:
        agents = [line["agent_id"]] if "agent_id" in line else self.agent
        if not agents:
            raise click.UsageError("Missing option '--agent'.")
        return agents

    def _given(self) -> dict[str, Any]:
        fields = {
            "params": self._params(),
            "type": self.type or ("EXEC" if self.argv else None),
            "priority": self.priority,
            "time_limit_seconds": self.time_limit,
            "idle_limit_seconds": self.idle_limit,
            "queue_ttl_seconds": self.queue_ttl,
            "offline": OfflinePolicy(self.offline) if self.offline else None,
            "slots": self.slots,
            "idempotency_key": self.idempotency_key,
            "max_runs": self.max_runs,
            "max_runs_by_reason": dict(self.max_runs_for) or None,
            "secret_params": [pointer_to(name) for name, _ in self.secret_params] or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _params(self) -> dict[str, Any]:
        objects = list(self.params_json)
        if self.argv:
            if self.type not in (None, "EXEC"):
                raise click.UsageError(f"a program to run needs --type EXEC, not {self.type}")
            objects.append({"argv": list(self.argv)})
        try:
            return merged_params([*self.params, *self.secret_params], objects)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
