from __future__ import annotations

from distributor.app.server_stores import store_policy
from distributor.settings import ServerSettings


def test_seconds_of_settings_become_milliseconds_of_the_store() -> None:
    settings = ServerSettings(
        queue_limit=7, priority_ageing=1.5, ack_deadline=21.5, stop_grace=2.0, heartbeat_interval=3.0
    )
    policy = store_policy(settings)
    assert (policy.queue_limit, policy.queue_full) == (7, "refuse")
    assert policy.ageing_ms_per_priority == 1_500
    assert policy.ack_deadline_ms == 21_500
    assert policy.run_limit_slack_ms == 5_000
    assert policy.retention_ms == 604_800_000


def test_no_key_is_remembered_longer_than_its_command() -> None:
    assert store_policy(ServerSettings(result_retention=60.0)).idempotency_ms == 60_000
    assert store_policy(ServerSettings()).idempotency_ms == 86_400_000


def test_an_agent_is_remembered_for_a_week_however_briefly_results_are_kept() -> None:
    week_ms = 7 * 86_400_000
    assert store_policy(ServerSettings(result_retention=60.0)).session_ttl_ms == week_ms
    assert store_policy(ServerSettings(result_retention=1_209_600.0)).session_ttl_ms == 2 * week_ms
