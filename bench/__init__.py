"""`python -m bench` measures a server's speed and memory and compares them with targets."""

import os

# Processes are started without fork, so gRPC needs no fork handlers.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Streams are cut on purpose, and gRPC would log each.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
