"""Every error that crosses a layer, as one tree.

    DistributorError            code                  whose fault
    ├── InvalidArgument         INVALID_ARGUMENT      the caller's: names the field and the limit
    ├── NotFound                NOT_FOUND             the caller's
    ├── AlreadyExists           ALREADY_EXISTS        the caller's
    ├── FailedPrecondition      FAILED_PRECONDITION   nobody's: not in this state
    ├── ResourceExhausted       RESOURCE_EXHAUSTED    nobody's: a bound was reached, try later
    ├── PermissionDenied        PERMISSION_DENIED     the caller's
    ├── Aborted                 ABORTED               nobody's: lost a race, start over
    ├── Unavailable             UNAVAILABLE           ours or the store's: try later
    └── ConfigurationError      INTERNAL              the operator's: a setting, a port, a Valkey

`code` is the canonical gRPC code by name, `reason` a stable word in UPPER_SNAKE_CASE, `field` the path of the
field at fault. `rpc.status` turns the tree into gRPC status details, `cli.exit_codes` into exit codes.
"""

from __future__ import annotations

from typing import ClassVar


class DistributorError(Exception):
    """Something that a caller can be told. `str(error)` is one sentence for people."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        metadata: dict[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code
        self.field = field
        self.metadata = metadata or {}
        self.retry_after_seconds = retry_after_seconds


class InvalidArgument(DistributorError):
    """The request can never succeed as it is."""

    code = "INVALID_ARGUMENT"


class NotFound(DistributorError):
    """There is no such command or agent, or no longer."""

    code = "NOT_FOUND"


class AlreadyExists(DistributorError):
    """The name or key is taken by something else."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(DistributorError):
    """Not in the state of things as it is now."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(DistributorError):
    """A bound was reached; the same request may succeed later."""

    code = "RESOURCE_EXHAUSTED"


class PermissionDenied(DistributorError):
    """Not for this caller."""

    code = "PERMISSION_DENIED"


class Aborted(DistributorError):
    """Lost a race with somebody else; start over."""

    code = "ABORTED"


class Unavailable(DistributorError):
    """Valkey, or this server, cannot serve now. Whether a change took effect is unknown."""

    code = "UNAVAILABLE"


class ConfigurationError(DistributorError):
    """A setting, a port or a Valkey that the operator has to mend. Ends the process before it serves."""

    code = "INTERNAL"
