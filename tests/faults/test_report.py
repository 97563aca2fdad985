"""What a campaign prints."""

from __future__ import annotations

import pytest

from tests.faults.campaign.report import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 min 0 s"), (59.6, "1 min 0 s"), (1_199.0, "19 min 59 s"), (3_600.0, "60 min 0 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
