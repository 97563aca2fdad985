"""NATS JetStream with its Python client."""
