"""A command assigned to a session: its lease, the stages that it reached, and its output."""

from __future__ import annotations

from distributor.model.output_flow import OutputFlow


class InFlight:
    """A command assigned to this session. `claimed_at` is when it was claimed."""

    __slots__ = (
        "acknowledged",
        "after_heartbeat",
        "attempt",
        "cancel_reason",
        "claimed_at",
        "control",
        "lease_id",
        "output",
        "revision",
        "sent",
        "slots",
        "started",
    )

    def __init__(self, lease_id: str, attempt: int, claimed_at: float, control: bool = False) -> None:
        self.control = control
        """True if it uses none of the agent's capacity."""
        self.slots = 1
        """How much of the agent's capacity it uses, unless it is a control command."""
        self.lease_id = lease_id
        self.attempt = attempt
        self.after_heartbeat = 0
        """The heartbeat answered last before the claim."""
        self.revision = 0
        """The command's revision when an attaching agent kept it; 0 if this session claimed it."""
        self.claimed_at = claimed_at
        # Milliseconds from the claim to each stage; None if not reached.
        self.sent: int | None = None
        self.acknowledged: int | None = None
        self.started: int | None = None
        self.cancel_reason: str | None = None
        """The caller's reason, once a cancel is on its way to the agent."""
        self.output: OutputFlow | None = None
        """None until there is output; most commands have none."""

    def acknowledge(self, at: int) -> None:
        """The agent has the command. This implies that it was sent: the write may be confirmed after the reply."""
        self.acknowledged = at
        if self.sent is None:
            self.sent = at

    def output_end(self) -> int:
        """Bytes of output that the attempt has, as far as its server knows."""
        return self.output.end if self.output is not None else 0
