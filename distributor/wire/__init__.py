"""Shared by both ends of a connection: channel options, limits, JSON values, enum maps, status details."""
