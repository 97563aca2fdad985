"""An agent whose commands print the time, written with the public API.

Takes the server's address. A CLOCK command prints the time `lines` times, `pause` seconds apart.
"""

from __future__ import annotations

import asyncio
import sys
import time

from distributor.agent import Agent, CommandContext

AGENT_ID = "clock"
CLOCK = "CLOCK"


async def print_the_time(command: CommandContext) -> None:
    """Print nanoseconds since 1970, one line each."""
    lines, pause = command.params["lines"], command.params["pause"]
    assert isinstance(lines, int | float)
    assert isinstance(pause, int | float)
    for _ in range(round(lines)):
        await command.output(f"{time.time_ns()}\n")
        await asyncio.sleep(pause)


if __name__ == "__main__":
    agent = Agent(AGENT_ID, server=sys.argv[1], capacity=2)
    agent.add_handler(CLOCK, print_the_time)
    agent.run()
