"""Launches `distributor`; the same as the installed program of that name."""

from distributor.cli.programs import distributor

if __name__ == "__main__":
    distributor()
