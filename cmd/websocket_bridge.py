"""Serves dashboards, as `distributor bridge` does."""

from distributor.cli.programs import websocket_bridge

if __name__ == "__main__":
    websocket_bridge()
