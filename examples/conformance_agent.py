"""An agent that the conformance kit can test: the contract of the type CONFORMANCE in docs/agents.md.

distributor conformance --listen=127.0.0.1:0 -- python examples/conformance_agent.py --server={address}
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from distributor.agent import Agent, CommandContext, CommandFailed

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
PIECE_BYTES = 26 * 1_000


async def conformance(command: CommandContext) -> object:
    """Mark the start, print, wait, then fail or return a value, each if the params ask for it."""
    params = command.params
    if "mark" in params:
        mark(Path(str(params["mark"])), command.command_id)
    left = int(float(str(params.get("output", 0))))
    while left > 0:
        piece = (ALPHABET * (PIECE_BYTES // len(ALPHABET)))[:left]
        await command.output(piece)
        left -= len(piece)
    await asyncio.sleep(float(str(params.get("seconds", 0))))
    if "fail" in params:
        raise CommandFailed("conformance_failure", "as asked", transient=params["fail"] == "transient")
    return params.get("echo")


def mark(path: Path, command_id: str) -> None:
    """Add a line to a file, which shows how often a command was started."""
    with path.open("a") as starts:
        starts.write(f"{command_id}\n")


def main() -> None:
    """Serve until the kit ends this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--capacity", type=int, default=3)
    options = parser.parse_args()
    agent = Agent("conformance-python", server=options.server, capacity=options.capacity)
    agent.add_handler("CONFORMANCE", conformance)
    agent.run()


if __name__ == "__main__":
    main()
