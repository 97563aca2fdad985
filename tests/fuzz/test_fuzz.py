"""The part of the fuzzing that every test run has time for. `make fuzz` runs longer, with another seed each time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.campaign import campaign

SEED: Final = 1
SECONDS: Final = 50.0
"""With starting and stopping, about a minute."""


@pytest.mark.timeout(300)
async def test_nothing_breaks_whatever_comes_in(tmp_path: Path) -> None:
    findings = await campaign(SEED, SECONDS, "", tmp_path)
    assert not findings.complaints, "\n".join([*findings.figures, *findings.complaints])
    assert all(findings.attempts[name] > 20 for name in findings.attempts), findings.attempts
