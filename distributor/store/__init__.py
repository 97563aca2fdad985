"""The store on Valkey. No other package uses Valkey."""
