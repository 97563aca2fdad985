"""How fast, how much memory: `python -m bench` measures a server of its own and compares with the targets."""

import os

# We start processes while gRPC runs, and none of them is a copy of us: its handlers of fork have nothing to do.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Streams are cut on purpose here, which it would tell each time.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
