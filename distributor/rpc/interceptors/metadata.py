"""Limits the metadata of a call: until its caller is known, a call costs no more than its length."""

from __future__ import annotations

from distributor.errors import ResourceExhausted
from distributor.rpc.interceptors.wrapping import Context


def check_metadata_size(context: Context, max_bytes: int) -> None:
    """Raise ResourceExhausted beyond `max_bytes`."""
    size = sum(len(name) + len(value) for name, value in context.invocation_metadata() or ())
    if size > max_bytes:
        raise ResourceExhausted(
            f"the metadata has {size:,} bytes, the limit is {max_bytes:,} (max_metadata_bytes)",
            reason="METADATA_TOO_LARGE",
        )
