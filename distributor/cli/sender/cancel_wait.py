"""Cancels commands and waits until nothing of them runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.cli.sender.cancel_texts import STAGE_TEXTS, cancel_text, is_stopped
from distributor.cli.sender.presence_monitor import PresenceMonitor
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.tables import some_of
from distributor.client import CancelStage, CommandClient, CommandState
from distributor.errors import DistributorError, Unavailable
from distributor.wire.documents import state_document


class CancelWait:
    """One wait for cancelled commands: until each has ended, or its agent reports that it could not stop it.

    Shows each stage of a cancel as it comes. If it ends early, the cancels stay in effect.
    """

    def __init__(self, client: CommandClient, screen: Screen, command_ids: Sequence[str]) -> None:
        self._client = client
        self._screen = screen
        self._ids = list(dict.fromkeys(command_ids))
        self._states: dict[str, CommandState] = {}
        """The latest state of each command that was cancelled."""
        self._shown: dict[str, CancelStage] = {}
        """The stage of each command that was shown last."""
        self._presence_monitor = PresenceMonitor(client, screen, self._stopping_agents)

    async def run(self, reason: str, timeout_seconds: float | None) -> ExitCode:
        """Cancel, wait, show what became of the commands, and return the exit code."""
        code = await self._cancel(reason)
        try:
            await self._wait(timeout_seconds)
        except asyncio.CancelledError:
            self._screen.message(f"interrupted{self._unsettled_text()}")
            raise
        except TimeoutError as error:
            self._show_outcomes()
            self._screen.error(f"{error}{self._unsettled_text()}")
            return ExitCode.TIMEOUT
        self._show_outcomes()
        stopped = all(is_stopped(state) for state in self._states.values())
        return code or (ExitCode.SUCCESS if stopped else ExitCode.FAILED)

    async def _cancel(self, reason: str) -> ExitCode:
        """Cancel each command. One that cannot be is shown as an error; the others still follow."""
        code = ExitCode.SUCCESS
        for command_id in self._ids:
            try:
                self._note(await self._client.cancel(command_id, reason))
            except Unavailable:
                raise
            except DistributorError as error:
                self._screen.error(str(error))
                code = code or exit_code_of(error)
        return code

    async def _wait(self, timeout_seconds: float | None) -> None:
        if not (unsettled := self._unsettled()):
            return
        presence_monitor = asyncio.create_task(self._watch_agents())
        try:
            async with aclosing(self._client.watch_many(unsettled, timeout_seconds)) as states:
                async for state in states:
                    if state != self._states[state.command_id]:
                        self._note(state)
                    if not self._unsettled():
                        return
        finally:
            presence_monitor.cancel()

    async def _watch_agents(self) -> None:
        await self._presence_monitor.run_once()
        await self._presence_monitor.run()

    def _note(self, state: CommandState) -> None:
        self._states[state.command_id] = state
        if self._screen.format == "jsonl":
            self._screen.record(state_document(state))
        elif self._screen.for_people and not _is_settled(state):
            self._show_stage(state)

    def _show_stage(self, state: CommandState) -> None:
        stage = state.cancel_stage or CancelStage.REQUESTED
        if self._shown.get(state.command_id) is not stage:
            self._shown[state.command_id] = stage
            self._screen.message(f"{state.command_id}: cancel requested; {STAGE_TEXTS[stage]}")

    def _show_outcomes(self) -> None:
        states = [self._states[one] for one in self._ids if one in self._states]
        if self._screen.for_people:
            for state in states:
                self._screen.text(f"{state.command_id} {cancel_text(state)}")
        elif self._screen.format == "json" and (states or len(self._ids) > 1):
            forms = [state_document(state) for state in states]
            self._screen.document(forms[0] if len(self._ids) == 1 else forms)

    def _stopping_agents(self) -> list[str]:
        return [self._states[one].agent_id for one in self._unsettled()]

    def _unsettled(self) -> list[str]:
        return [one for one, state in self._states.items() if not _is_settled(state)]

    def _unsettled_text(self) -> str:
        """The commands that are still to be stopped, as the end of a message."""
        unsettled = self._unsettled()
        return f"; the cancels stay in effect; not ended: {some_of(unsettled)}" if unsettled else ""


def _is_settled(state: CommandState) -> bool:
    return state.status.terminal or state.cancel_stage is CancelStage.COULD_NOT_STOP
