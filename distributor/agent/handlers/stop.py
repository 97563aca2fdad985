"""STOP: finish or cancel other work, report the result, and leave."""

from __future__ import annotations

from typing import Protocol

from distributor.agent.command_context import CommandContext, CommandFailed, Handler


class Stoppable(Protocol):
    """What STOP needs from the agent."""

    def leave(self, reason: str, cancel: bool = False) -> None:
        """Take no more work; leave once everything has ended and is acknowledged. `cancel` stops running work."""

    async def other_work_ended(self) -> None:
        """Wait until only STOP runs."""


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
        await agent.other_work_ended()
        return {"stopped": True, "reason": reason}

    return stop
