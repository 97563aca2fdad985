"""The scenarios, one file per chapter of docs/protocol.md."""
