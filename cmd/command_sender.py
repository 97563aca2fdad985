"""Queues commands and follows them, as the installed `command-sender` does."""

from distributor.cli.command_sender import main

if __name__ == "__main__":
    main()
