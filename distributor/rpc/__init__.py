"""gRPC: servicers, conversion between messages and model values, server assembly."""
