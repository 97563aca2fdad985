"""Reads google.rpc status details from trailing metadata."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from distributor.wire.times import retry_seconds
from distributor.wire.transport import ERROR_DETAILS_KEY

M = TypeVar("M", bound=Message)


def details_of(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status:
    """Return the details in a call's trailing metadata; empty if missing or malformed."""
    # Not grpc_status.rpc_status.from_call, which raises if the details do not match the call. This must not fail.
    for key, value in trailing_metadata or ():
        if key == ERROR_DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def unpacked(details: status_pb2.Status, message: M) -> M:
    """Return the first detail of the type of `message`; if there is none, `message` unchanged."""
    for detail in details.details:
        with suppress(DecodeError):
            if detail.Unpack(message):
                break
    return message


def retry_after_of(details: status_pb2.Status) -> float | None:
    """Return the retry delay requested by the server, in seconds; None if there is none."""
    info = unpacked(details, error_details_pb2.RetryInfo())
    return retry_seconds(info.retry_delay) if info.HasField("retry_delay") else None
