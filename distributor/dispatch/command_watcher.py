"""Watches of commands: states, output and results as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from distributor.dispatch.output_holds import Hold, OutputHolds
from distributor.dispatch.ports import CommandReader, OutputLog
from distributor.dispatch.refusals import bounded, no_such_command, valid
from distributor.dispatch.visibility import Visibility
from distributor.dispatch.watches import Watch, Watches
from distributor.errors import InvalidArgument, Unavailable
from distributor.identity.caller import Caller
from distributor.model.command import CommandResult, CommandState, check_agent_id, check_command_id
from distributor.model.delivery import OutputChunk, OutputGap, Update

MAX_OUTPUT_BYTES_PER_READ: Final = 262_144
BUSY_LIST_LENGTH: Final = 50
BUSY_PAUSE_SECONDS: Final = 0.01


class CommandWatcher:
    """Watches over ports. Each subscribes before it reads, so that no change is lost in between."""

    def __init__(self, reader: CommandReader, output_log: OutputLog, watches: Watches, holds: OutputHolds) -> None:
        self._reader = reader
        self._output_log = output_log
        self._watches = watches
        self._holds = holds
        self._visibility = Visibility(reader)

    async def watch(
        self, caller: Caller, command_id: str, output_offset: int, with_output: bool, hold_output: bool = False
    ) -> AsyncGenerator[Update, None]:
        """The current state and each change, the output from an offset, and finally the result.

        With `hold_output`, the program waits for this reader instead of losing output that it has not read. The
        terminal state follows all output; the result comes last. Raises NotFound, and InvalidArgument for a negative
        offset.
        """
        valid(check_command_id, command_id)
        if output_offset < 0:
            raise InvalidArgument(
                f"output_offset must not be negative, not {output_offset:,}",
                field="output_offset",
                reason="OFFSET_OUT_OF_RANGE",
            )
        watch = self._watches.open([command_id])
        hold = self._holds.open(command_id, output_offset) if hold_output and with_output else None
        try:
            (state,) = await self._seen(watch, caller, [command_id])
            if not state.status.terminal:
                yield state
            while True:
                if with_output:
                    async for piece in self._output_from(command_id, output_offset, hold):
                        await self._check(watch, caller, [command_id])
                        output_offset = piece.end_offset
                        yield piece
                if state.status.terminal:
                    result = await self._result(command_id)
                    if with_output and output_offset < result.output_bytes:
                        # The store was full and dropped the end of the output.
                        yield OutputGap(output_offset, result.output_bytes)
                    yield state
                    await self._check(watch, caller, [command_id])
                    yield result
                    return
                latest = await self._next_state(watch, state)
                await self._check(watch, caller, [command_id])
                if latest.revision <= state.revision:
                    continue
                state = latest
                if not state.status.terminal:
                    yield state
        finally:
            self._watches.close(watch, [command_id])
            self._holds.close(hold)

    def reserve(self, command_id: str) -> None:
        """Hold the output of a command just queued, for a watch with `hold_output` that will follow."""
        self._holds.reserve(command_id)

    async def watch_many(
        self, caller: Caller, command_ids: Sequence[str], agent_ids: Sequence[str]
    ) -> AsyncGenerator[list[CommandState], None]:
        """States as they change: of these commands until all have ended, else of these agents' commands, else of all.

        With `command_ids`, the first list has the state of each; without, it is empty. Raises NotFound for the first
        unknown id and, without `command_ids`, Unavailable if changes may have been missed.
        """
        bounded("command_ids", command_ids)
        bounded("agent_ids", agent_ids)
        for command_id in command_ids:
            valid(check_command_id, command_id, "command_ids")
        for agent_id in agent_ids:
            valid(check_agent_id, agent_id, "agent_ids")
        watch = self._watches.open(command_ids, agent_ids)
        try:
            if not command_ids:
                async for states in self._changes(watch, caller):
                    yield states
            elif not caller.grants.everything:
                await self._seen(watch, caller, command_ids)
            alive = set(command_ids)
            sent: dict[str, CommandState] = {}
            watch.stale = True
            while alive:
                if not watch.stale:
                    await watch.wait()
                states, unread, _ = watch.take()
                await self._check(watch, caller, [one for one in command_ids if one in alive])
                if watch.stale:
                    watch.stale = False
                    states, unread = [], dict.fromkeys((one for one in command_ids if one in alive), 0)
                states += await self._states(list(unread))
                # Skip events that are older than the states read.
                states = [state for state in states if not _known(sent, state)]
                sent.update((state.command_id, state) for state in states)
                if states:
                    yield states
                await _pause_if_busy(states)
                alive.difference_update(state.command_id for state in states if state.status.terminal)
        finally:
            self._watches.close(watch, command_ids, agent_ids)

    async def _changes(self, watch: Watch, caller: Caller) -> AsyncGenerator[list[CommandState], None]:
        """Changes of commands not known in advance. The first list is empty: from then on no change is omitted."""
        yield []
        while True:
            await watch.wait()
            states, unread, _ = watch.take()
            if unread:
                states += await self._announced(unread)
            if states and not caller.grants.everything:
                states = await self._visibility.visible(caller, states)
            if states:
                yield states
            await _pause_if_busy(states)
            if watch.stale:
                raise Unavailable("changes may have been missed; watch again", reason="EVENTS_MISSED")

    async def _announced(self, revisions: Mapping[str, int]) -> list[CommandState]:
        """Read commands at these revisions. Omit those that have a newer state, which comes with its own change.

        Shown now, it would be followed by the older states that were announced meanwhile.
        """
        read = await self._reader.states(list(revisions))
        # One that is forgotten meanwhile has nothing to show.
        found = [state for state in read if state is not None]
        self._watches.learn(found)
        return [state for state in found if state.revision <= revisions[state.command_id]]

    async def _next_state(self, watch: Watch, state: CommandState) -> CommandState:
        """Wait for an event and return the latest state, unchanged if there was only output."""
        await watch.wait()
        states, unread, _ = watch.take()
        if watch.stale or unread:
            watch.stale = False
            states = await self._states([state.command_id])
        return states[-1] if states else state

    async def _output_from(
        self, command_id: str, offset: int, hold: Hold | None
    ) -> AsyncGenerator[OutputChunk | OutputGap, None]:
        while chunks := await self._output_log.read(command_id, offset, MAX_OUTPUT_BYTES_PER_READ):
            for chunk in chunks:
                if chunk.offset > offset:
                    yield OutputGap(offset, chunk.offset)
                yield chunk
                offset = chunk.end_offset
                if hold is not None:
                    hold.read(offset)

    async def _seen(self, watch: Watch, caller: Caller, command_ids: Sequence[str]) -> list[CommandState]:
        """The states, for a caller that may see them all. Raises NotFound for the first that it may not, or unknown.

        The watch is checked again when labels that this depends on may have changed.
        """
        states = await self._reader.states(command_ids)
        if caller.grants.need_labels and not watch.agents:
            # Before labels are read: an agent may attach with others meanwhile.
            self._watches.depend(watch, {state.agent_id for state in states if state is not None})
        return self._found(command_ids, await self._visibility.commands(caller, states))

    async def _check(self, watch: Watch, caller: Caller, command_ids: Sequence[str]) -> None:
        """Raise NotFound if one of these commands may not be seen any more, after its agent has attached."""
        if watch.unchecked:
            watch.unchecked = False
            await self._seen(watch, caller, command_ids)

    async def _states(self, command_ids: Sequence[str]) -> list[CommandState]:
        return self._found(command_ids, await self._reader.states(command_ids)) if command_ids else []

    def _found(self, command_ids: Sequence[str], states: Sequence[CommandState | None]) -> list[CommandState]:
        for command_id, state in zip(command_ids, states, strict=True):
            if state is None:
                raise no_such_command(command_id)
        found = [state for state in states if state is not None]
        self._watches.learn(found)
        return found

    async def _result(self, command_id: str) -> CommandResult:
        (result,) = await self._reader.results([command_id])
        if result is None:
            raise no_such_command(command_id)
        return result


def _known(sent: Mapping[str, CommandState], state: CommandState) -> bool:
    before = sent.get(state.command_id)
    return before is not None and state.revision <= before.revision


async def _pause_if_busy(states: Sequence[CommandState]) -> None:
    """Under load, let successive changes of a command coalesce."""
    if len(states) >= BUSY_LIST_LENGTH:
        await asyncio.sleep(BUSY_PAUSE_SECONDS)
