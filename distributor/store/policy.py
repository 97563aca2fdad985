"""Times and limits that are passed to the store functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """One value for all stores of a replica. Durations in milliseconds."""

    queue_limit: int = 1_000
    queue_full: str = "refuse"
    caller_commands: int = 0
    """Unfinished commands that one principal may have; 0 for any number."""
    ageing_ms_per_priority: int = 60_000
    idempotency_ms: int = 86_400_000
    offline_after_ms: int = 30_000
    late_after_ms: int = 20_000
    """Age of an agent's last proof of life from which it is shown as degraded."""
    session_ttl_ms: int = 604_800_000
    retention_ms: int = 604_800_000
    ack_deadline_ms: int = 20_000
    run_limit_slack_ms: int = 20_000
    delivery_attempts: int = 3
    events_kept: int = 5_000
    """Entries of the event stream; not used if `events_kept_ms` is set."""
    events_kept_ms: int = 0
    """Age of the oldest entry of the event stream; 0 to limit their number instead."""
    output_kept_bytes: int = 1_048_576
    output_kept_pieces: int = 65_536
    """Bounds what the headers of tiny pieces take: about 2 MiB of Valkey's memory per command."""
    max_claimed_bytes: int = 3 * 1_048_576
    """Limit for the commands of one claim: with overhead, they fit the 4 MiB that gRPC clients accept by default."""
