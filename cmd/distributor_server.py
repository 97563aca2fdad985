"""Launches `distributor`; the same as the installed program of that name."""

from distributor.cli.distributor import main

if __name__ == "__main__":
    main()
