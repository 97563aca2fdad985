"""An agent that the conformance kit can test: the contract of the type CONFORMANCE in docs/agents.md.

distributor conformance --listen=127.0.0.1:0 -- python examples/conformance_agent.py --server={address}
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from distributor.agent import Agent, ClientCredentials, CommandContext, CommandFailed, JournalPolicy

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
    await wait(float(str(params.get("seconds", 0))), bool(params.get("stubborn")))
    if "fail" in params:
        raise CommandFailed("conformance_failure", "as asked", transient=params["fail"] == "transient")
    return params.get("echo")


async def wait(seconds: float, stubborn: bool) -> None:
    """Wait; a stubborn handler ignores that it must stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            if not stubborn:
                raise


def mark(path: Path, command_id: str) -> None:
    """Add a line to a file, which shows how often a command was started."""
    with path.open("a") as starts:
        starts.write(f"{command_id}\n")


def main() -> None:
    """Serve until the kit ends this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--capacity", type=int, default=3)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--orphan-after", type=float, default=0.0)
    parser.add_argument("--tls-ca", type=Path)
    parser.add_argument("--token-file", type=Path)
    options = parser.parse_args()
    agent = Agent("conformance-python", server=options.server, capacity=options.capacity)
    agent.journal = JournalPolicy(options.journal) if options.journal else None
    agent.orphan_after = options.orphan_after
    agent.credentials = ClientCredentials(ca=options.tls_ca, token_file=options.token_file)
    agent.add_handler("CONFORMANCE", conformance)
    agent.run()


if __name__ == "__main__":
    main()
