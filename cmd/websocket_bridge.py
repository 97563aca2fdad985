"""Serves dashboards, as `distributor bridge` does."""

from distributor.cli.server import bridge

if __name__ == "__main__":
    bridge()
