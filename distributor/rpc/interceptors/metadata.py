"""Limits the metadata of a call: until its caller is known, a call costs no more than its length."""

from __future__ import annotations

from distributor.errors import ResourceExhausted
from distributor.rpc.interceptors.wrapping import Context
from distributor.wire.transport import MAX_METADATA_BYTES


def check_metadata_size(context: Context) -> None:
    """Raise ResourceExhausted beyond MAX_METADATA_BYTES."""
    size = sum(len(name) + len(value) for name, value in context.invocation_metadata() or ())
    if size > MAX_METADATA_BYTES:
        raise ResourceExhausted(
            f"the metadata has {size:,} bytes, the limit is {MAX_METADATA_BYTES:,}", reason="METADATA_TOO_LARGE"
        )
