"""The agent of `dev` and `demo` is started again, and not for ever."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from distributor.app.agent_process import AgentProcess
from distributor.errors import Unavailable


async def test_one_that_keeps_ending_is_given_up(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = [sys.executable, "-c", f"open({str(starts)!r}, 'a').write('.'); raise SystemExit(3)"]
    async with AgentProcess(program) as agent:
        with pytest.raises(Unavailable, match=re.escape("the agent ended again (exit code 3) after 3 restarts")):
            await agent.supervisor().run()
    assert len(starts.read_text()) == 1 + 3
