"""The only place that knows Valkey."""
