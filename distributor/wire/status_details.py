"""What a server says beside code and text of a status: google.rpc details in the trailing metadata."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from distributor.wire.transport import ERROR_DETAILS_KEY

M = TypeVar("M", bound=Message)


def details_of(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status:
    """The details in the metadata that ended a call; empty where there are none that make sense."""
    # Not grpc_status.rpc_status.from_call: it raises where the details do not match the call, and this must not fail.
    for key, value in trailing_metadata or ():
        if key == ERROR_DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def unpacked(details: status_pb2.Status, message: M) -> M:
    """The first detail of the type of `message`, or `message` itself, which is empty."""
    for detail in details.details:
        with suppress(DecodeError):
            if detail.Unpack(message):
                break
    return message


def retry_after_of(details: status_pb2.Status) -> float | None:
    """Seconds after which the server says that it is worth trying again; None where it does not say."""
    info = unpacked(details, error_details_pb2.RetryInfo())
    return info.retry_delay.ToMilliseconds() / 1000 if info.HasField("retry_delay") else None
