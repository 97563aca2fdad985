"""Who calls, and what they may do: tokens and their keys. No I/O."""
