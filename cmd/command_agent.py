"""Runs the reference agent, as the installed `command-agent` does."""

from distributor.cli.programs import command_agent

if __name__ == "__main__":
    command_agent()
