"""Use cases and background loops over ports: no Valkey, no gRPC. One loop per file."""
