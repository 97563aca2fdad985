"""What the distributor does, over ports: no Valkey, no gRPC. One background loop per file."""
