"""Signals that grow from layer to layer, until the weights of the output suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from fixqnn.universal.constructions.draft import Draft, Gate, Signal
from fixqnn.universal.constructions.runs import Run
from fixqnn.universal.grid import Setting

__all__ = ["DEEPEST", "Growth", "Path", "bring_out", "growth_of"]

NEVER = 1 << 50
DEEPEST = 8  # layers in which signals may grow
MOST_RISES = 16  # how far a signal may rise: beyond, only some are looked at


@dataclass(frozen=True)
class Path:
    """How a signal reaches the output.

    Attributes
    ----------
    cost : int
        Parameters, without those of the neurons that are gathered.
    copies : int
        Of each of these.
    runs : tuple of Run
        Where the signal is when it is on, level by level, from theirs.
    weight : int
        Its coefficient at the output.
    """

    cost: int
    copies: int
    runs: tuple[Run, ...]
    weight: int


@lru_cache(maxsize=32)
def growth_of(setting: Setting, table: tuple[int, ...], fan: int, first: Run) -> Growth:
    """The same `Growth` for the same question: it remembers what it found."""
    return Growth(setting, table, fan, first)


class Growth:
    """The cheapest ways to bring a signal to the output with a given coefficient.

    A neuron that reads a signal of rise a and rises by b itself takes k ≈ b·s/(a·M) weights, each to a copy of its own; n
    copies of it take n·k. So a signal that many neurons make together (`fan` of them, of which one at most is on) is
    gathered once or twice, while it is small, and grows afterwards, where a copy costs a few weights.

    Parameters
    ----------
    setting : Setting
        Format, weights, biases, tie rule.
    table : tuple of int
        The activation.
    fan : int
        How many neurons the signal is gathered from.
    first : Run
        The run of each when it is on.
    """

    def __init__(self, setting: Setting, table: tuple[int, ...], fan: int, first: Run) -> None:
        self.draft, self.fan, self.first = Draft(setting, table, 1), fan, first
        runs = self.draft.rises()
        if len(runs) > MOST_RISES:
            runs = [runs[round(len(runs) ** (i / (MOST_RISES - 1))) - 1] for i in range(MOST_RISES)]
        self.runs = tuple(dict.fromkeys(runs))
        self._gains: dict[tuple[Run, Run], tuple[int, int] | None] = {}
        self._made: dict[tuple[int, Run, int], tuple[int, tuple[Run, ...]]] = {}

    def path(self, layers: int, coefficient: int, slack: int) -> Path | None:
        """The cheapest path through a number of layers after those that are gathered.

        Parameters
        ----------
        layers : int
            How many; with 0 the output gathers.
        coefficient : int
            What the output's sum must rise by, in units of 1/s².
        slack : int
            By how much it may miss this.
        """
        best, low = None, self.draft.runs[0].value
        for run in self.runs if layers else (self.first,):
            rise = run.value - low
            weight = round(coefficient / (rise * self.draft.unit)) * self.draft.unit
            if weight and abs(weight * rise - coefficient) <= slack:
                copies = self.draft.copies(weight)
                cost, runs = self._neurons(layers, run, copies)
                cost += copies * (1 if layers else self.fan)
                if cost < NEVER and (best is None or cost < best.cost):
                    gathered = self._gain(self.first, runs[1])[0] if layers else copies
                    best = Path(cost, gathered, runs, weight)
        return best

    def paths(self, layers: int, steps: Sequence[int], slack: int) -> list[Path] | None:
        """For steps in codes, all through the same number of layers; None where one has no path."""
        found = [self.path(layers, step * self.draft.setting.s, slack) for step in steps]
        return None if None in found else found

    def _neurons(self, level: int, run: Run, copies: int) -> tuple[int, tuple[Run, ...]]:
        """Parameters of so many equal neurons and of all below them but the gathered, and the runs up to here."""
        if level == 0:
            return 0, (run,)
        key = (level, run, copies)
        if key not in self._made:
            best: tuple[int, tuple[Run, ...]] = (NEVER, ())
            for before in self.runs if level > 1 else (self.first,):
                gain = self._gain(before, run)
                if gain is not None and (level > 1 or gain[0] <= self._least):
                    cost = copies * (gain[0] * (self.fan if level == 1 else 1) + gain[1])
                    if cost < best[0]:
                        below, runs = self._neurons(level - 1, before, gain[0])
                        best = min(best, (cost + below, (*runs, run)), key=lambda found: found[0])
            self._made[key] = best
        return self._made[key]

    @cached_property
    def _least(self) -> int:
        """The fewest weights to each neuron that is gathered: these are never copied more than they must be."""
        return min((gain[0] for run in self.runs if (gain := self._gain(self.first, run))), default=0)

    def _gain(self, before: Run, run: Run) -> tuple[int, int] | None:
        """Weights and biases of a neuron in `run` that reads a signal whose run is `before`."""
        if (before, run) not in self._gains:
            signal = Signal(0, 0, self.draft.runs[0].value, before.value)
            made = self.draft.conjunction([Gate(((signal, 1),))], run)
            self._gains[before, run] = None if made is None else (made[2], int(made[1] != 0))
        return self._gains[before, run]


def bring_out(
    draft: Draft, level: int, signals: Sequence[Signal | None], path: Path, output: dict[int, int]
) -> int | None:
    """Let signals of a level, of which one at most is on, grow along a path, and add them to the output's coefficients.

    Returns
    -------
    int or None
        What they add to the output while they are off; None where a neuron cannot be made.
    """
    for above, run in enumerate(path.runs[1:], level + 1):
        if None in signals:
            return None
        signals = [draft.join(above, [Gate(tuple((signal, 1) for signal in signals))], run)]
    if None in signals:
        return None
    for signal in signals:
        output[signal.neuron] = output.get(signal.neuron, 0) + path.weight
    return path.weight * sum(signal.off for signal in signals)
