"""Where a search begins: one width everywhere, and widths by layer from what each layer's rounding costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fixqnn.sweeps.evaluate import Bench
from fixqnn.sweeps.space import MACHINE, Space


def seeds(space: Space, bench: Bench, trials: int) -> list[dict[str, Any]]:
    """Give the settings to begin with, at most half of the trials.

    Parameters
    ----------
    space : Space
        What can be set.
    bench : Bench
        The network, and its calibration.
    trials : int
        How many points the search may try.
    """
    uniform = [on for settings in space.uniform() for on in _on_machines(space, settings)]
    allocated = [on for settings in allocations(space, bench) for on in _on_machines(space, settings)]
    most = max(1, trials // 2)
    share = most - min(len(allocated), most // 2)
    found = [*thinned(uniform, share), *thinned(allocated, most - min(share, len(uniform)))]
    return list({repr(settings): settings for settings in found}.values())


def allocations(space: Space, bench: Bench) -> list[dict[str, Any]]:
    """Widths by layer for several targets; none where the space has no widths by layer."""
    return []


def _on_machines(space: Space, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The same on the first machine and on the last: where they are a range, on the narrowest and on the widest."""
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
