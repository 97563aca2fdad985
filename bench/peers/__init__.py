"""Peers that are measured side by side with this project, on the same work.

The work: a caller queues a small command, one worker process runs it at once, and the caller sees its result. Every
peer has its own broker, worker and caller, each a separate process on loopback, and its durable setting.
"""
