"""A server of several workers."""

from __future__ import annotations

from pathlib import Path

from bench.child import ROOT, Child
from bench.cluster import Cluster, ServerVariant


class WorkerCluster(Cluster):
    """Like Cluster, with as many workers. Everything in `folder`."""

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__(folder, ServerVariant())
        self._server = Child(
            "server",
            folder,
            str(ROOT / "cmd" / "distributor_server.py"),
            *("serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"),
            environment={"DISTRIBUTOR_VALKEY_URL": self.valkey_url, "DISTRIBUTOR_WORKERS": str(workers)},
        )

    @property
    def server_pids(self) -> list[int]:
        """The process that was started, and the workers that it has."""
        server = self.pids["server"]
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, children)]
