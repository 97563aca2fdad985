"""An agent of your own in a few lines.

With a server running (`distributor dev`), start this agent:

    python examples/greeting_agent.py

and send it a command from another terminal:

    command-sender send --agent=greeter --type=GREET --params=name=Ada --follow
"""

from __future__ import annotations

import asyncio

from distributor.agent import Agent, CommandContext, CommandFailed

# The name is how commands find this agent. It connects out, so it needs no open port.
agent = Agent("greeter", server="127.0.0.1:50051", capacity=4)


@agent.handler("GREET")
async def greet(command: CommandContext) -> dict[str, str]:
    """Runs once for each command of type GREET; up to four at a time."""
    name = command.params.get("name")
    if not isinstance(name, str):
        # Ends the command as failed, with a code that programs can act on.
        raise CommandFailed("invalid_params", "params.name must be text")

    # Whoever follows the command sees this at once.
    await command.output(f"thinking of something nice to say to {name}…\n")
    await asyncio.sleep(0.5)

    # What a handler returns is the result: any JSON value.
    return {"greeting": f"Hello {name}!"}


if __name__ == "__main__":
    # Runs until Ctrl-C, or until somebody sends it the command STOP.
    agent.run()
