"""The errors that cross layers, as one tree.

    DistributorError            code                  at fault
    ├── InvalidArgument         INVALID_ARGUMENT      the caller; names the field and the limit
    ├── NotFound                NOT_FOUND             the caller
    ├── AlreadyExists           ALREADY_EXISTS        the caller
    ├── FailedPrecondition      FAILED_PRECONDITION   nobody: not allowed in this state
    ├── ResourceExhausted       RESOURCE_EXHAUSTED    nobody: a limit was reached, retry later
    ├── Unauthenticated         UNAUTHENTICATED       the caller: no credentials, or none that count
    ├── PermissionDenied        PERMISSION_DENIED     the caller: known, but not permitted
    ├── Aborted                 ABORTED               nobody: lost a race, start over
    ├── Unavailable             UNAVAILABLE           the server or Valkey; retry later
    └── ConfigurationError      INTERNAL              the operator: a setting, a port, a Valkey

`code` is the name of the canonical gRPC code, `reason` a stable UPPER_SNAKE_CASE identifier, `field` the path of the
invalid field. `rpc.status` maps the tree to gRPC status details, `cli.exit_codes` to exit codes.
"""

from __future__ import annotations

from typing import ClassVar


class DistributorError(Exception):
    """An error that may be shown to a caller. `str(error)` is one human-readable sentence."""

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
    """The request is invalid and can never succeed unchanged."""

    code = "INVALID_ARGUMENT"


class NotFound(DistributorError):
    """The command or agent does not exist, or no longer."""

    code = "NOT_FOUND"


class AlreadyExists(DistributorError):
    """The name or key is already in use."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(DistributorError):
    """The current state does not allow the operation."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(DistributorError):
    """A limit was reached; the same request may succeed later."""

    code = "RESOURCE_EXHAUSTED"


class Unauthenticated(DistributorError):
    """The caller has no credentials, or they are invalid, expired or revoked."""

    code = "UNAUTHENTICATED"


class PermissionDenied(DistributorError):
    """The caller is known and lacks the permission."""

    code = "PERMISSION_DENIED"


class Aborted(DistributorError):
    """The operation lost a race; start over."""

    code = "ABORTED"


class Unavailable(DistributorError):
    """Valkey or the server is unavailable. A requested change may or may not have taken effect."""

    code = "UNAVAILABLE"


class ConfigurationError(DistributorError):
    """A setting, port or Valkey that the operator must fix. Ends the process before it serves."""

    code = "INTERNAL"
