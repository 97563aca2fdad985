"""Queue commands for agents behind NAT, run each at most once, follow it live, keep its result."""

__version__ = "0.1.0"
