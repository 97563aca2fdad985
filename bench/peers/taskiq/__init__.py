"""taskiq on Valkey."""
