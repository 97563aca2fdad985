"""Send a hundred PINGs to each agent and count how they end.

    python examples/many_commands.py AGENT [AGENT]...

It calls the server that command-sender would, with the same credentials.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from distributor.client import CommandClient, CommandRequest, Queued


async def main(*agent_ids: str) -> int:
    """Queue, wait and count; return the exit code."""
    async with CommandClient.configured() as client:
        outcomes = await client.queue_many(
            CommandRequest(agent_id, "PING", priority=75) for agent_id in agent_ids for _ in range(100)
        )
        # Each command has its own outcome: refusing one does not affect the others.
        queued = [outcome.command_id for outcome in outcomes if isinstance(outcome, Queued)]
        print(f"queued {len(queued)} of {len(outcomes)}")

        endings: Counter[str] = Counter()
        try:
            async for state in client.wait_many(queued, timeout_seconds=60):
                endings[state.status.value] += 1
        except TimeoutError as error:
            print(f"{len(queued) - endings.total()} commands have {error}")
        print(dict(endings))
    return 0 if endings["completed"] == len(outcomes) else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
