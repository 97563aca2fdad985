"""Runs the reference agent, as the installed `command-agent` does."""

from distributor.cli.command_agent import main

if __name__ == "__main__":
    main()
