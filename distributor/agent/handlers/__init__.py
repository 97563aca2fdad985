"""The built-in handlers: EXEC, PING and STOP."""
