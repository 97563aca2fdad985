"""STOP: finish or cancel the other work, answer, and leave."""

from __future__ import annotations

from typing import Protocol

from distributor.agent.command_context import CommandContext, CommandFailed, Handler


class Stoppable(Protocol):
    """What STOP needs of the agent."""

    def leave(self, reason: str, cancel: bool = False) -> None:
        """Take no more work; go once everything has ended and is acknowledged. `cancel` ends running work now."""

    async def others_ended(self) -> None:
        """Wait until nothing runs but STOP itself."""


def stop_handler(agent: Stoppable) -> Handler:
    """A handler that ends the agent.

    Params: `reason`, text; `running`, what to do with running work: "finish" (the default) or "cancel".
    """

    async def stop(command: CommandContext) -> object:
        reason, running = command.params.get("reason", ""), command.params.get("running", "finish")
        if not isinstance(reason, str):
            raise CommandFailed("invalid_params", "params.reason must be text")
        if running not in ("finish", "cancel"):
            raise CommandFailed("invalid_params", 'params.running must be "finish" or "cancel"')
        agent.leave(reason or "STOP command", cancel=running == "cancel")
        await agent.others_ended()
        return {"stopped": True, "reason": reason}

    return stop
