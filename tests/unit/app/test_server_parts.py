from __future__ import annotations

from distributor.app.server_parts import retry_policy
from distributor.settings import ServerSettings


def test_when_delivery_is_tried_again() -> None:
    policy = retry_policy(ServerSettings(delivery_attempts=7, retry_first=2.5, retry_most=9.0))
    assert (policy.attempts, policy.first_ms, policy.max_ms) == (7, 2_500, 9_000)
