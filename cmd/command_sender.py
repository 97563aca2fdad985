"""Queues commands and follows them, as the installed `command-sender` does."""

from distributor.cli.programs import command_sender

if __name__ == "__main__":
    command_sender()
