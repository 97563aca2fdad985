"""What both sides of a connection must agree on: channel options, JSON values, enum numbers, status details."""
