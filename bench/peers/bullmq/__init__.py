"""BullMQ on Valkey."""
