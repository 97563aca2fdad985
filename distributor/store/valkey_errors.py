"""Conversion of the driver's errors, and of Valkey's error replies, to ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import valkey.exceptions as driver

from distributor.errors import DistributorError, ResourceExhausted, Unavailable

_TRY_LATER: Final = frozenset(
    "ASK BUSY CLUSTERDOWN LOADING MASTERDOWN MISCONF NOREPLICAS TRYAGAIN".split(),
)
"""Codes of error replies that end by themselves or with a failover."""

_CREDENTIALS: Final = ("NOAUTH", "WRONGPASS")
READ_ONLY: Final = "READONLY"
"""The code with which a replica refuses to write."""
_MOVED: Final = "MOVED"
_DENIED: Final = "NOPERM"
_DENIED_IN_FUNCTION: Final = "ACL failure in script"
_FULL: Final = "OOM"
_GENERIC: Final = "ERR"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the driver's errors as ours.

    Only calls of the driver belong inside: a RuntimeError is that of uvloop, which has noticed the end of a connection
    before the driver uses it. The driver passes it on.
    """
    try:
        yield
    except (driver.ValkeyError, OSError) as error:
        raise converted(error) from error
    except RuntimeError as error:
        raise away(str(error)) from error


def converted(error: driver.ValkeyError | OSError) -> DistributorError:
    """Our error for one of the driver's or the operating system's, which is its cause."""
    ours = _converted(error)
    ours.__cause__ = error
    return ours


def refusal(reply: str) -> DistributorError:
    """Our error for an error reply: `reply` is what Valkey sent, code first. The driver's error is its cause."""
    code, _, text = reply.partition(" ")
    error: DistributorError
    if code == _MOVED:
        return _moved(driver.MovedError(text))
    if code in (READ_ONLY, *_TRY_LATER):
        error = _try_later(reply)
    elif code in _CREDENTIALS:
        error = _credentials(text)
    elif code == _FULL:
        error = _full(text)
    elif code == _DENIED or _DENIED_IN_FUNCTION in text:
        error = _denied(text)
    else:
        text = text if code == _GENERIC else reply
        error = DistributorError(f"Valkey refused a call: {text}", reason="STORE_ERROR")
    error.__cause__ = driver.ResponseError(text)
    return error


def away(why: str) -> Unavailable:
    """The error for a Valkey that cannot be reached or whose reply did not arrive."""
    return Unavailable(f"Valkey is away: {why}", reason="STORE_UNAVAILABLE", retry_after_seconds=1.0)


def _converted(error: driver.ValkeyError | OSError) -> DistributorError:
    if isinstance(error, driver.ConnectionError | driver.TimeoutError | OSError):
        # While connecting, the driver wraps the authentication error in another.
        if driver.AuthenticationError in (type(error), type(error.__cause__)):
            return _credentials(str(error))
        return away(str(error))
    if isinstance(error, driver.OutOfMemoryError):
        return _full(str(error))
    if isinstance(error, driver.MovedError):
        return _moved(error)
    if isinstance(error, driver.ReadOnlyError | driver.AskError | driver.TryAgainError | driver.ClusterDownError):
        return _try_later(str(error))
    if isinstance(error, driver.NoPermissionError):
        return _denied(str(error))
    if isinstance(error, driver.ResponseError):
        return refusal(str(error))
    return DistributorError(f"Valkey failed: {error}", reason="STORE_ERROR")


def _moved(error: driver.MovedError) -> Unavailable:
    """The cause says where to."""
    ours = _try_later(f"another node serves slot {error.slot_id}")
    ours.__cause__ = error
    return ours


def _try_later(text: str) -> Unavailable:
    return Unavailable(f"Valkey cannot serve now: {text}", reason="STORE_UNAVAILABLE", retry_after_seconds=1.0)


def _credentials(text: str) -> Unavailable:
    return Unavailable(
        f"Valkey refuses our credentials: {text.rstrip('.')}; check user and password in valkey_url",
        reason="STORE_UNAVAILABLE",
    )


def _denied(text: str) -> DistributorError:
    return DistributorError(
        f"Valkey denies a call to our user: {text.rstrip('.')}; distributor valkey-acl prints the permissions it needs",
        reason="STORE_ERROR",
    )


def _full(text: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"Valkey has no memory left for more commands: {text}", reason="STORE_FULL", retry_after_seconds=5.0
    )
