"""Serves dashboards, as `distributor bridge` does."""

from distributor.cli.distributor import bridge

if __name__ == "__main__":
    bridge()
