"""A custom agent in a few lines.

With a server running (`distributor dev`), make a token for this agent, and start it:

    distributor token --agent=greeter >greeter.token
    DISTRIBUTOR_AGENT_TOKEN_FILE=greeter.token python examples/greeting_agent.py

and send it a command from another terminal:

    command-sender send --agent=greeter --type=GREET --params=name=Ada --follow
"""

from __future__ import annotations

import asyncio

from distributor.agent import Agent, ClientCredentials, CommandContext, CommandFailed
from distributor.settings import load_agent_settings

# Commands address this agent by its id. It opens the connection, so it needs no open port.
agent = Agent("greeter", server="127.0.0.1:50051", capacity=4)
# The token or certificate that the environment or the settings file names, if any.
agent.credentials = ClientCredentials.of(load_agent_settings())


@agent.handler("GREET")
async def greet(command: CommandContext) -> dict[str, str]:
    """Run once per command of type GREET, up to four at a time."""
    name = command.params.get("name")
    if not isinstance(name, str):
        # Fails the command with a code for programs to act on.
        raise CommandFailed("invalid_params", "params.name must be text")

    # Callers that follow the command see this at once.
    await command.output(f"thinking of something nice to say to {name}…\n")
    await asyncio.sleep(0.5)

    # The return value, any JSON value, is the result.
    return {"greeting": f"Hello {name}!"}


if __name__ == "__main__":
    # Runs until Ctrl-C or a STOP command.
    agent.run()
