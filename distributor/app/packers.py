"""What compresses messages and stored data, as the settings say, and counts it."""

from __future__ import annotations

from functools import partial

from distributor.observability.metrics import Compressed, Metrics
from distributor.settings import ServerSettings
from distributor.wire.at_rest_packer import AtRestObservers, AtRestPacker
from distributor.wire.compression import Compression
from distributor.wire.message_packer import MessagePacker


def message_packer(settings: ServerSettings, metrics: Metrics, sent: Compressed, received: Compressed) -> MessagePacker:
    """What compresses messages; `sent` and `received` name them in the metrics."""
    return MessagePacker(
        Compression(settings.compression == "gzip", settings.compression_threshold),
        partial(metrics.compressed, sent),
        partial(metrics.compressed, received),
        settings.max_message_bytes,
    )


def at_rest_packer(settings: ServerSettings, metrics: Metrics) -> AtRestPacker:
    """What compresses params, results and output in Valkey."""
    return AtRestPacker(
        Compression(settings.stored_compression == "gzip", settings.compression_threshold),
        AtRestObservers(
            partial(metrics.compressed, Compressed.STORED_COMMANDS),
            partial(metrics.compressed, Compressed.STORED_RESULTS),
            partial(metrics.compressed, Compressed.STORED_OUTPUT),
        ),
    )
