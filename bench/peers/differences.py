"""What this project does and each peer does not, by the peers' own documentation."""

from __future__ import annotations

from typing import NamedTuple

YES = "yes"
NO = "no"


class Difference(NamedTuple):
    """A feature of this project, and each peer's answer: "yes", "no", or what it has instead."""

    feature: str
    jetstream: str
    bullmq: str
    taskiq: str

    def of(self, peer: str) -> str:
        """Return the answer of a peer, by its name; "" for an unknown one."""
        return {"JetStream": self.jetstream, "BullMQ": self.bullmq, "taskiq": self.taskiq}.get(peer, "")


DIFFERENCES = (
    Difference(
        "address one agent and know whether it is connected",
        "a subject per agent; no presence",
        "a queue per agent; a list of connections",
        "a queue per agent; no presence",
    ),
    Difference("keep agents away from the store", YES, NO, NO),
    Difference("show the caller receipts: sent, acknowledged, started", NO, "only when it started", NO),
    Difference(
        "give each attempt a lease, and refuse a late result of an earlier one",
        "redelivers after a time; both results are stored",
        YES,
        "redelivers after a time; the later result overwrites",
    ),
    Difference(
        "start a command at most once, unless a retry is allowed, and report a lost one",
        "max_deliver 1; a loss is an advisory",
        "maxStalledCount 0; the default runs it again",
        "acknowledges on receipt; a loss goes unreported",
    ),
    Difference("end every command within a stated time", NO, "only once a worker has it", NO),
    Difference("cancel a running command, and know that it stopped", NO, "a signal without confirmation", NO),
    Difference("stream output while a command runs, with offsets", NO, "log lines and progress", "progress"),
    Difference("limit the run time", NO, NO, "coroutines only"),
    Difference("retry with backoff, by the number of attempts", YES, YES, YES),
    Difference("order by priority", NO, YES, NO),
    Difference("queue once for repeated requests with the same key", "within a time window", YES, NO),
    Difference("refuse commands when an agent's queue is full", YES, NO, NO),
    Difference("expire commands in the queue", "a maximum age per stream", NO, NO),
    Difference("delete results after a retention period", YES, YES, YES),
    Difference("send every status change to any number of watchers", NO, YES, NO),
)
