"""Says in words why a connection could not be made, from gRPC's text."""

from __future__ import annotations

from typing import Final

_BY_MARK: Final = (
    ("WRONG_VERSION_NUMBER", "it does not speak TLS on this port"),
    ("Hostname Verification Check failed", "its certificate is for another host name"),
    ("certificate has expired", "its certificate has expired"),
    ("certificate is not yet valid", "its certificate is not valid yet"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by a trusted authority; set tls_ca to its authority"),
)
_NOT_CONNECTED: Final = "failed to connect"
_CLOSED: Final = ("Socket closed", "Connection reset by peer")


def cause_of(details: str) -> str:
    """Return the cause to act on, from gRPC's text for a failed call or connection."""
    for mark, cause in _BY_MARK:
        if mark in details:
            return cause
    # gRPC gives a chain of causes, and the innermost last. The opening bracket may have been cut off.
    cause = details.rpartition(": ")[2]
    cause = cause if "[" in cause else cause.removesuffix("]")
    if _NOT_CONNECTED in details and cause in _CLOSED:
        return f"{cause}; one end may use TLS and the other not, or it requires a client certificate"
    return cause
