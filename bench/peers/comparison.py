"""Compares contenders by the turns they took. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.findings import Finding
from bench.peers.turns import COMMANDS_PER_SECOND, P50_MS, P99_MS, Turn
from bench.peers.work import Shape

FIGURES = {Shape.BATCHED: (COMMANDS_PER_SECOND,), Shape.SINGLY: (COMMANDS_PER_SECOND,), Shape.IDLE: (P50_MS, P99_MS)}
UNITS = {COMMANDS_PER_SECOND: "commands/s", P50_MS: "ms", P99_MS: "ms"}
RIVALS = ("JetStream", "BullMQ")
"""The peers to beat in batches: by a factor of BATCHED_TARGET, in the same run."""
BATCHED_TARGET = 2.0
SINGLY_RIVAL = "taskiq"
SINGLY_TARGET = 2_500 / 1_500


class Comparison:
    """The turns of a run. A ratio is the median of the ratios within each round."""

    def __init__(self, turns: Iterable[Turn], own: str, peers: Sequence[str]) -> None:
        self._turns = {(turn.contender, turn.shape, turn.round): turn.figures for turn in turns}
        self._rounds = sorted({number for _, _, number in self._turns})
        self.own = own
        self.peers = peers

    @property
    def contenders(self) -> Sequence[str]:
        """This project, then the peers."""
        return (self.own, *self.peers)

    def median(self, contender: str, shape: Shape, figure: str) -> float | None:
        """Return the median of a figure over the rounds, None if the contender has no such figure."""
        values = [self._turns[contender, shape, number].get(figure) for number in self._rounds]
        present = [value for value in values if value is not None]
        return median(present) if present else None

    def ratio(self, peer: str, shape: Shape, figure: str) -> float:
        """Return this project's figure divided by the peer's."""
        return self.ratio_to_best((peer,), shape, figure)

    def ratio_to_best(self, peers: Sequence[str], shape: Shape, figure: str) -> float:
        """Return this project's figure divided by the highest of several peers."""
        return median(
            self._turns[self.own, shape, number][figure]
            / max(self._turns[peer, shape, number][figure] for peer in peers)
            for number in self._rounds
        )

    def findings(self) -> list[Finding]:
        """Return figures and ratios of each shape, with the targets."""
        found: list[Finding] = []
        for shape, figures in FIGURES.items():
            for figure in figures:
                found += self._findings(shape, figure)
        return found

    def _findings(self, shape: Shape, figure: str) -> Iterable[Finding]:
        title = shape.value if figure == COMMANDS_PER_SECOND else f"{shape.value}, {figure.removesuffix(' ms')}"
        for contender in self.contenders:
            value = self.median(contender, shape, figure)
            if value is not None:
                yield Finding(f"{title}: {contender}", value, UNITS[figure])
        for peer in self.peers:
            target = SINGLY_TARGET if (shape, peer) == (Shape.SINGLY, SINGLY_RIVAL) else None
            yield Finding(f"{title}: {self.own} / {peer}", self.ratio(peer, shape, figure), "times", at_least=target)
        if shape is Shape.BATCHED and set(RIVALS) <= set(self.peers):
            best = self.ratio_to_best(RIVALS, shape, figure)
            name = f"{title}: {self.own} / best of {' and '.join(RIVALS)}"
            yield Finding(name, best, "times", at_least=BATCHED_TARGET)
