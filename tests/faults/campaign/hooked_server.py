"""`distributor serve` with the points of `hooks.py`."""

from __future__ import annotations

from distributor.cli.programs import distributor
from tests.faults.campaign.hooks import SERVER_POINTS, install

if __name__ == "__main__":
    install(SERVER_POINTS)
    distributor()
