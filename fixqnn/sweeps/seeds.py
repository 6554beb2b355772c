"""Where a search begins: one width everywhere, and widths by layer from what each layer's rounding costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fixqnn.errors import FixqnnError
from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.points import split
from fixqnn.sweeps.space import MACHINE, Space, numbers

SAMPLES = 16  # gradients of so many tell enough to begin with


def seeds(space: Space, bench: Bench, samples: Any, trials: int, targets: Iterable[float]) -> list[dict[str, Any]]:
    """Give the settings to begin with, at most half of the trials, from wide to narrow.

    Parameters
    ----------
    space : Space
        What can be set.
    bench : Bench
        The network.
    samples : array, or as `calibrate` takes them
        Typical inputs.
    trials : int
        How many points the search may try.
    targets : iterable of float
        Signal over error in dB, for each of which widths are given to the layers.
    """
    uniform = [on for settings in space.uniform() for on in _on_machines(space, settings)]
    allocated = [on for settings in allocations(space, bench, samples, targets) for on in _on_machines(space, settings)]
    most = max(1, trials // 2)
    share = most - min(len(allocated), most // 2)
    found = [*thinned(uniform, share), *thinned(allocated, most - min(share, len(uniform)))]
    return list({repr(settings): settings for settings in found}.values())


def allocations(space: Space, bench: Bench, samples: Any, targets: Iterable[float]) -> list[dict[str, Any]]:
    """Give the layers widths for some targets; none where the space has no widths by layer.

    A target that is not reached, and a network with an operation whose gradient is not known, give none either: a search does
    without.
    """
    from fixqnn.analysis.allocation import allocate_bits

    by_layer = [numbers(axis) for name, axis in space.axes.items() if _is_width_of_layer(name)]
    widths = [bits for axis in by_layer for bits in axis]
    if not widths or max(widths) < 2:
        return []
    found = []
    for target in sorted(targets, reverse=True):
        try:
            given = allocate_bits(
                bench.graph, samples, target_sqnr=target, policy=bench.policy, bits=(max(2, min(widths)), max(widths)),
                limit=SAMPLES, seed=bench.seed,
            )  # fmt: skip
        except FixqnnError:
            continue
        found.append(space.from_overrides(given.overrides))
    return found


def _is_width_of_layer(name: str) -> bool:
    setting, pattern = split(name)
    return pattern is not None and setting in ("weights", "activations")


def _on_machines(space: Space, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The same on the last machine and on the first: where they are a range, on the widest and on the narrowest."""
    if MACHINE not in space.axes:
        return [settings]
    axis = space.axes[MACHINE]
    return [{**settings, MACHINE: machine} for machine in dict.fromkeys((axis[-1], axis[0]))]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """Keep at most so many, evenly spread, the first and the last among them.

    >>> thinned(range(9), 3), thinned("ab", 3), thinned("abc", 1)
    ([0, 4, 8], ['a', 'b'], ['a'])
    """
    if len(items) <= most:
        return list(items)
    if most <= 1:
        return list(items[:most])
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
