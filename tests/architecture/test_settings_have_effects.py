"""Each setting has a test that changes it and sees what that does. A setting without one may have no effect at all."""

from __future__ import annotations

import re
from typing import Final

import pytest

from distributor.settings.loading import GROUPS
from tests.support.source_tree import ROOT

SEEN_BY: Final[dict[str, dict[str, str]]] = {
    "server": {
        "trust_domain": "test_the_trust_domain_is_a_setting",
        "ca_key": "test_an_outside_ca_issues_elsewhere",
        "certificate_lifetime": "test_the_lifetime_is_a_setting",
        "renewal_grace": "test_the_grace_is_a_setting",
        "verified_labels": "test_labels_that_need_proof_are_not_taken_from_a_hello",
        "agent_servers": "test_agents_are_sent_where_they_can_connect",
        "caller_call_rate": "test_a_caller_that_calls_too_fast_is_told_when_to_come_back",
        "caller_command_rate": "test_a_caller_that_queues_too_fast_is_told_when_to_come_back",
        "caller_commands": "test_a_caller_has_only_so_many_unfinished_commands",
        "caller_burst": "test_a_caller_that_calls_too_fast_is_told_when_to_come_back",
        "caller_streams": "test_a_caller_has_only_so_many_watches",
        "failed_credentials_rate": "test_forged_tokens_are_not_checked_any_more_after_too_many",
        "failed_credentials_burst": "test_forged_tokens_are_not_checked_any_more_after_too_many",
        "agent_connects": "test_an_agent_that_connects_all_the_time_leaves_the_attach_rate_to_the_others",
        "agent_streams": "test_streams_of_one_agent_without_hello_leave_room_for_the_others",
        "handshake_timeout": "test_a_handshake_takes_bounded_time",
        "max_metadata_bytes": "test_metadata_up_to_the_setting_always_arrives",
        "max_message_bytes": "test_a_message_over_the_setting_is_refused",
        "http_request_timeout": "test_http_limits_of_a_server_are_settings",
        "max_http_body_bytes": "test_http_limits_of_a_server_are_settings",
        "listen": "test_a_watch_survives_a_restart_of_the_server",
        "policy_file": "test_policy_file_is_read_again_when_it_changes",
        "http_listen": "test_a_second_server_on_the_same_http_port",
        "valkey_url": "test_a_valkey_that_is_not_there",
        "token_key": "test_a_key_turns_authentication_on",
        "token_key_file": "test_keys_in_files_apply_without_a_restart",
        "public_keys": "test_public_keys_in_files_apply_without_a_restart",
        "jwks_url": "test_a_key_set_is_fetched_at_start",
        "jwks_interval": "test_a_key_that_is_withdrawn_verifies_no_more",
        "token_issuer": "test_issuer_audience_and_leeway_are_what_a_token_must_fit",
        "token_audience": "test_issuer_audience_and_leeway_are_what_a_token_must_fit",
        "token_leeway": "test_issuer_audience_and_leeway_are_what_a_token_must_fit",
        "data_dir": "test_a_second_server_on_the_same_data_folder",
        "durability": "test_durability_is_what_an_acknowledgement_waits_for",
        "replicas_acked": "test_replicas_acked_is_how_many_replicas_there_must_be",
        "polling_interval": "test_polling_interval_finds_what_nothing_announced",
        "cleanup_interval": "test_cleanup_interval_sets_the_pace_of_sweeping",
        "batch_size": "test_batch_size_bounds_what_is_given_out_at_once",
        "heartbeat_interval": "test_start_within_and_heartbeat_interval_are_what_agents_go_by",
        "start_within": "test_start_within_and_heartbeat_interval_are_what_agents_go_by",
        "offline_after": "test_a_silent_agent_is_taken_for_gone",
        "ack_deadline": "test_a_command_that_is_not_acknowledged_is_given_out_again_and_then_in_doubt",
        "delivery_attempts": "test_a_run_whose_result_was_stored_but_not_acknowledged_is_counted_once",
        "retry_first": "test_when_delivery_is_tried_again",
        "retry_most": "test_when_delivery_is_tried_again",
        "time_limit": "test_time_limit_and_queue_ttl_hold_where_a_command_does_not_say",
        "queue_ttl": "test_time_limit_and_queue_ttl_hold_where_a_command_does_not_say",
        "stop_grace": "test_a_command_outlives_its_time_limit_only_by_the_grace",
        "priority_ageing": "test_priority_ageing_weighs_age_against_priority",
        "queue_limit": "test_a_full_queue",
        "queue_full": "test_queue_full_says_what_a_full_queue_does",
        "max_params_bytes": "test_max_params_bytes_bounds_params",
        "max_result_bytes": "test_max_result_bytes_bounds_results",
        "output_kept_bytes": "test_output_that_was_cut_is_told_as_a_gap",
        "output_hold": "test_a_reader_that_does_not_come_holds_the_program_for_a_while_only",
        "audit": "test_without_authentication_there_is_no_trail_unless_it_is_on",
        "audit_key_file": "test_the_key_file_must_be_set_for_a_valkey_that_is_not_embedded",
        "audit_retention": "test_audit_retention_is_how_long_rows_are_kept",
        "audit_max_rows": "test_audit_max_rows_and_audit_max_bytes_bound_what_is_kept",
        "audit_max_bytes": "test_audit_max_rows_and_audit_max_bytes_bound_what_is_kept",
        "audit_checkpoint_interval": "test_audit_checkpoint_interval_is_the_time_between_checkpoints",
        "events_kept": "test_events_kept_limits_the_event_stream",
        "events_kept_for": "test_events_kept_for_limits_the_event_stream_by_age",
        "result_retention": "test_result_retention_is_how_long_a_result_is_kept",
        "max_watchers": "test_more_watchers_than_allowed_are_refused",
        "max_calls": "test_calls_beyond_the_limit",
        "max_agents": "test_agents_beyond_the_limit",
        "attach_rate": "test_agents_that_attach_too_fast_are_given_a_time_to_return",
        "compression": "test_a_server_with_compression_off_neither_compresses_nor_asks_for_it",
        "compression_threshold": "test_compression_threshold_is_where_it_begins",
        "stored_compression": "test_params_result_and_output_lie_compressed_and_marked",
        "drain_timeout": "test_a_drain_ends_within_its_timeout",
        "loop_stall_threshold": "test_loop_stall_threshold_is_how_long_the_loop_may_be_blocked",
        "log_format": "test_content_is_withheld",
        "log_level": "test_level",
        "reflection": "test_reflection_only_where_it_is_set",
        "tls_cert": "test_metrics_over_tls_follow_the_certificate",
        "tls_key": "test_metrics_over_tls_follow_the_certificate",
        "client_ca": "test_mutual_tls_has_an_address_of_its_own",
        "mtls_listen": "test_mutual_tls_has_an_address_of_its_own",
        "http_tls": "test_metrics_over_tls_follow_the_certificate",
        "insecure": "test_insecure_permits_it_and_says_so",
        "valkey_ca": "test_a_server_uses_tls_and_a_limited_user",
        "valkey_cert": "test_a_server_uses_tls_and_a_limited_user",
        "valkey_key": "test_a_server_uses_tls_and_a_limited_user",
    },
    "bridge": {
        "http_request_timeout": "test_a_request_takes_bounded_time_to_arrive",
        "max_http_body_bytes": "test_the_body_of_a_request_is_limited_as_set",
        "listen": "test_a_bridge_that_restarts_tells_that_it_goes_and_loses_nothing",
        "server": "test_a_server_that_stops_and_returns_is_reported",
        "valkey_url": "test_a_launched_bridge_serves_a_minted_token",
        "token_key": "test_the_key_may_be_in_a_file",
        "token_key_file": "test_the_key_may_be_in_a_file",
        "jwks_url": "test_a_key_set_is_fetched_at_start",
        "jwks_interval": "test_a_key_that_is_withdrawn_verifies_no_more",
        "token_issuer": "test_issuer_audience_and_leeway_are_what_a_token_must_fit",
        "public_keys": "test_public_keys_verify_tokens_of_others",
        "token_audience": "test_token_audience_is_the_one_that_tokens_must_name",
        "allowed_origins": "test_foreign_origins",
        "max_connections": "test_more_dashboards_than_the_limit",
        "max_connect_bytes": "test_a_long_first_message_is_not_read",
        "max_message_bytes": "test_the_largest_message_is_a_setting",
        "connect_timeout": "test_who_does_not_introduce_itself",
        "ping_interval": "test_a_peer_that_answers_no_ping_is_dropped",
        "queue_messages": "test_queue_messages_and_queue_bytes_bound_the_queue_of_a_dashboard",
        "queue_bytes": "test_queue_messages_and_queue_bytes_bound_the_queue_of_a_dashboard",
        "slow_close": "test_who_never_reads_again_is_cut_off",
        "close_timeout": "test_who_never_reads_again_is_cut_off",
        "token_leeway": "test_a_token_that_expires_ends_its_connection",
        "offline_after": "test_offline_after_is_when_a_silent_agent_counts_as_gone",
        "server_check_interval": "test_a_server_that_stops_and_returns_is_reported",
        "agent_sweep": "test_proof_of_life_is_told_now_and_then",
        "loop_stall_threshold": "test_loop_stall_threshold_is_how_long_the_loop_may_be_blocked",
        "log_format": "test_content_is_withheld",
        "log_level": "test_level",
        "tls_cert": "test_a_bridge_over_tls_follows_its_certificate",
        "tls_key": "test_a_bridge_over_tls_follows_its_certificate",
        "insecure": "test_a_page_in_plain_text_beyond_loopback_is_refused",
        "server_tls": "test_credentials_of_a_bridge_come_from_its_settings",
        "server_ca": "test_credentials_of_a_bridge_come_from_its_settings",
        "server_cert": "test_credentials_of_a_bridge_come_from_its_settings",
        "server_key": "test_credentials_of_a_bridge_come_from_its_settings",
        "server_token": "test_credentials_of_a_bridge_come_from_its_settings",
        "server_token_file": "test_credentials_of_a_bridge_come_from_its_settings",
        "valkey_ca": "test_a_server_uses_tls_and_a_limited_user",
        "valkey_cert": "test_a_server_uses_tls_and_a_limited_user",
        "valkey_key": "test_a_server_uses_tls_and_a_limited_user",
    },
    "agent": {
        "server": "test_stop_ends_the_process_with_success",
        "agent_id": "test_what_it_says_of_itself_comes_from_its_settings",
        "capacity": "test_what_it_says_of_itself_comes_from_its_settings",
        "allow_exec": "test_a_signal_lets_running_work_finish",
        "allowed_programs": "test_only_allowed_programs_run",
        "labels": "test_what_it_says_of_itself_comes_from_its_settings",
        "stop_grace": "test_nothing_is_left_running_when_the_agent_is_cancelled",
        "journal": "test_a_second_agent_on_the_journal_does_not_start",
        "journal_bytes": "test_the_journal_is_kept_as_set",
        "journal_sync": "test_the_journal_is_kept_as_set",
        "orphans": "test_processes_that_outlived_the_agent_are_reported_and_left_alone_if_so_set",
        "policy_file": "test_an_agent_checks_commands_as_its_settings_say",
        "trusted_signers": "test_an_agent_checks_commands_as_its_settings_say",
        "require_signature": "test_an_agent_checks_commands_as_its_settings_say",
        "orphan_after": "test_an_agent_without_a_server_stops_its_work_and_reports_it_later",
        "compression": "test_compression_of_the_agent_comes_from_its_settings",
        "compression_threshold": "test_compression_of_the_agent_comes_from_its_settings",
        "log_format": "test_content_is_withheld",
        "log_level": "test_level",
        "tls": "test_credentials_come_from_settings",
        "tls_ca": "test_credentials_come_from_settings",
        "tls_cert": "test_credentials_come_from_settings",
        "tls_key": "test_credentials_come_from_settings",
        "insecure": "test_credentials_come_from_settings",
        "token": "test_credentials_come_from_settings",
        "token_file": "test_credentials_come_from_settings",
    },
    "client": {
        "server": "test_a_server_that_stays_away_is_given_up",
        "compression": "test_compression_of_calls_is_a_setting",
        "compression_threshold": "test_compression_of_calls_is_a_setting",
        "tls": "test_credentials_come_from_settings",
        "tls_ca": "test_credentials_come_from_settings",
        "tls_cert": "test_credentials_come_from_settings",
        "tls_key": "test_credentials_come_from_settings",
        "insecure": "test_credentials_come_from_settings",
        "token": "test_credentials_come_from_settings",
        "token_file": "test_credentials_come_from_settings",
    },
}
"""The name of the test of each setting, by the table of its group. In which file it is does not matter."""

TESTS: Final = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
ALL: Final = [(group.table, name) for group in GROUPS for name in group.model_fields]


def spellings(table: str, name: str) -> list[str]:
    """How a test may name a setting: as a field, as an option, as a variable. Of lists, options name one entry."""
    option = name.removesuffix("s").replace("_", "-")
    prefix = "" if table == "server" else f"{table.upper()}_"
    return [rf"\b{name}\b", rf"--{option}", rf"DISTRIBUTOR_{prefix}{name.upper()}\b"]


@pytest.mark.parametrize(("table", "name"), ALL, ids=[f"{table}.{name}" for table, name in ALL])
def test_a_setting_has_a_test_of_its_effect(table: str, name: str) -> None:
    definition = re.compile(rf"^(?:async )?def {SEEN_BY[table][name]}\(", re.MULTILINE)
    files = [text for text in TESTS if definition.search(text)]
    assert files, "there is no such test"
    assert any(re.search(spelling, text) for text in files for spelling in spellings(table, name)), "it changes nothing"


def test_each_that_is_listed_is_a_setting() -> None:
    assert {(table, name) for table, tests in SEEN_BY.items() for name in tests} == set(ALL)
