"""gRPC: servicers, translation between messages and the model's values, server assembly."""
