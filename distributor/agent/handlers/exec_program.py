"""EXEC: run a program and stream its output."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from distributor.agent.command_context import CommandContext, CommandFailed, Completed
from distributor.agent.handlers.allowed_programs import AllowedPrograms
from distributor.agent.handlers.exec_params import INHERITED, read_params
from distributor.agent.handlers.start_failure import why_not_found, why_not_started
from distributor.agent.process_group import ProcessGroup, Program
from distributor.agent.process_tree import RUN_MARKER
from distributor.agent.survivors import surviving
from distributor.environment import ATTEMPT_MARKER, COMMAND_MARKER
from distributor.model.json_value import JsonValue
from distributor.tasks import finishes

EXEC: Final = "EXEC"

LEFTOVER_SECONDS: Final = 0.5
"""How long leftover processes of a program may take to end by themselves."""

LAST_OUTPUT_SECONDS: Final = 1.0
"""How long a stopped command waits for room for its last output before dropping the rest."""

SIGNAL_EXIT_BASE: Final = 128
"""A program killed by signal n gets the exit code 128 + n, as shells report it."""


@dataclass(frozen=True, slots=True)
class ExecPolicy:
    """What the operator of this host allows EXEC to do.

    `allowed_programs` are names or paths; empty allows every program. It limits which programs EXEC may start, by
    file and name, not what they do: one that starts others (`sh`, `env`, `find -exec`) allows everything.
    `stop_grace` is the time in seconds between TERM and KILL.
    """

    allowed_programs: tuple[str, ...] = ()
    stop_grace: float = 5.0


class ExecHandler:
    """Runs programs, each in its own process group, with the params argv, env, cwd and stdin (see `exec_params`).

    Exit code 0 completes the command, any other fails it as `exit_nonzero`, and a signal as `killed_by_signal`.
    A command that is stopped ends with all its processes. One that ends by itself leaves daemons alone: descendants
    outside its group run on, and the result lists them.
    """

    def __init__(self, policy: ExecPolicy) -> None:
        self._policy = policy
        self._allowed = AllowedPrograms(policy.allowed_programs)
        self._groups: set[ProcessGroup] = set()

    async def __call__(self, command: CommandContext) -> Completed:
        """Run the program of `command` to its end."""
        group = await self._start(self._program(command))
        self._groups.add(group)
        command.survivors = lambda: surviving(group.survivors)
        data: dict[str, JsonValue] = {}
        command.on_program(command.command_id, group.pid)
        copying = asyncio.create_task(_copy_output(group, command))
        try:
            await group.exited()
            command.finished(group.exited_at)
            if not await group.gone(within=LEFTOVER_SECONDS):
                await group.stop(self._policy.stop_grace, with_escaped=False)
                data["killed_leftover_processes"] = True
            if escaped := await group.escaped():
                data["surviving_processes"] = [{"pid": one.pid, "name": one.name} for one in surviving(escaped)]
            await group.drained()
            # `asyncio.wait`, because a cancel of this handler must not cancel the copying.
            await asyncio.wait({copying})
        except asyncio.CancelledError:
            if group.exited_at is not None:
                # It had ended by itself, even if this handler was not told yet.
                command.finished(group.exited_at)
            await group.stop(self._policy.stop_grace)
            # The result says how much output was delivered in time.
            await finishes(_last_output(group, copying), LAST_OUTPUT_SECONDS)
            if command.finished_at is None:
                raise
        finally:
            copying.cancel()
            self._groups.remove(group)
            group.close()
        return _outcome(group.returncode, data or None)

    def kill_all(self) -> None:
        """Kill all programs without waiting, for an agent that ends at once."""
        for group in self._groups:
            group.kill()

    def _program(self, command: CommandContext) -> Program:
        asked = read_params(command.params, guarded=bool(self._allowed))
        marks = {
            COMMAND_MARKER: command.command_id,
            ATTEMPT_MARKER: str(command.attempt),
            RUN_MARKER: command.run_id or secrets.token_hex(8),
        }
        env = _inherited_environment() | asked.env | marks
        name = asked.argv[0]
        found = shutil.which(os.path.join(asked.cwd or "", name) if "/" in name else name, path=env.get("PATH"))
        if found is None:
            raise CommandFailed("program_not_found", why_not_found(name, asked.cwd, env.get("PATH")))
        if not self._allowed.permits(found):
            raise CommandFailed("program_not_allowed", f"this host does not allow EXEC to start {name!r}")
        return Program(os.path.abspath(found), asked.argv, env, asked.cwd, asked.stdin)

    async def _start(self, program: Program) -> ProcessGroup:
        starting = asyncio.ensure_future(ProcessGroup.start(program))
        try:
            # Shielded, so that a cancel at this moment cannot leave an untracked process.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            group = await starting
            await group.stop(self._policy.stop_grace)
            group.close()
            raise
        except OSError as error:
            reason = why_not_started(program.argv[0], program.executable, program.cwd, error)
            raise CommandFailed("program_not_started", reason) from error


async def _last_output(group: ProcessGroup, copying: asyncio.Task[None]) -> None:
    await group.drained()
    await asyncio.wait({copying})


async def _copy_output(group: ProcessGroup, command: CommandContext) -> None:
    while pieces := await group.output.next():
        for piece in pieces:
            await command.output(piece.data, piece.stream)


def _outcome(returncode: int, data: Mapping[str, JsonValue] | None) -> Completed:
    if returncode == 0:
        return Completed(data, exit_code=0)
    if returncode > 0:
        raise CommandFailed("exit_nonzero", f"exited with {returncode}", exit_code=returncode, data=data)
    number = -returncode
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    raise CommandFailed("killed_by_signal", f"killed by {name}", exit_code=SIGNAL_EXIT_BASE + number, data=data)


def _inherited_environment() -> dict[str, str]:
    environment = os.environ  # noqa: TID251  # no settings of ours: what any program expects of its host
    return {name: environment[name] for name in INHERITED if name in environment}
