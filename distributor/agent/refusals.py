"""Refusals of commands."""

from __future__ import annotations

from distributor.v1 import agent_gateway_pb2 as gateway


def refused(code: gateway.RefusalCode.ValueType, reason: str, message: str) -> gateway.Refused:
    """A refusal without its command. Long messages are cut."""
    refusal = gateway.Refused(code=code)
    refusal.reason.code, refusal.reason.message = reason, message[:1024]
    return refusal


def stale(start_within: float) -> gateway.Refused:
    """The refusal of a command that came too long after the heartbeat that makes it fresh."""
    return refused(gateway.REFUSAL_CODE_STALE, "stale", f"the command was in transit for over {start_within:g} s")
