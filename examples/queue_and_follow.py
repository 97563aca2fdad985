"""Run one program on one agent and follow its output.

    python examples/queue_and_follow.py AGENT PROGRAM [ARG]...

It calls the server that command-sender would, with the same credentials. The agent must allow EXEC.
"""

from __future__ import annotations

import asyncio
import sys

from distributor.client import CommandClient, CommandRequest, CommandResult, CommandState, OutputChunk, OutputStream


async def main(agent_id: str, *argv: str) -> int:
    """Queue the program, print its output and return its exit code."""
    async with CommandClient.configured() as client:
        queued = await client.queue(CommandRequest(agent_id, "EXEC", {"argv": argv}, time_limit_seconds=60))
        # Resumes if the server is unavailable for a while: each byte arrives exactly once.
        async for update in client.watch(queued.command_id):
            match update:
                case CommandState():
                    print(f"[{update.status}]", file=sys.stderr)
                case OutputChunk():
                    stream = sys.stderr if update.stream is OutputStream.STDERR else sys.stdout
                    stream.buffer.write(update.data)
                    stream.flush()
                case CommandResult():
                    print(f"[{update.status}, exit code {update.exit_code}]", file=sys.stderr)
                    return update.exit_code or 0
    return 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
