"""The program of a server for tests: any free ports, and a folder that it is given.

    python -m distributor.testing.server_program FOLDER

Its settings are in here, so that no environment variable or file can make it use a Valkey that others need.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from distributor.app.server_process import serve_until_stopped
from distributor.errors import DistributorError
from distributor.observability.logging import configure_logging
from distributor.settings import ServerSettings


def main() -> None:
    """Serve until SIGTERM. Logs JSON to stderr; the line "serving" has the address.

    What keeps it from serving, such as a missing valkey-server, is its last line there.
    """
    configure_logging("json", "info")
    settings = ServerSettings(
        listen="127.0.0.1:0", http_listen="127.0.0.1:0", data_dir=Path(sys.argv[1]), drain_timeout=0.2
    )
    try:
        asyncio.run(serve_until_stopped(settings))
    except DistributorError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
