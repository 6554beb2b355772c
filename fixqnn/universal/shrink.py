"""Make a network smaller without changing a single output: what does not matter goes, checked on every input.

Neurons that nothing reads, neurons that are equal on all inputs, weights and biases without which a neuron shows the
same codes, and whole neurons without which the output stays the same. Every change is accepted only after a look at all
inputs of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fixqnn.universal.constructions.layers import Layer, Network, grid, nearest

__all__ = ["shrink"]

EFFORT = 10**8  # products that may be formed by default: a second or two


@dataclass
class _Effort:
    """Products that may still be formed: counted and not timed, so that the same network always comes out."""

    left: float

    def spend(self, products: float) -> bool:
        """Take some; False where there are not so many left."""
        self.left -= products
        return self.left >= 0


def shrink(network: Network, effort: float = EFFORT) -> Network:
    """Take away what does not matter.

    Parameters
    ----------
    network : Network
        What it computes on its grid is kept; all inputs are held in memory.
    effort : float
        How many products may be formed to try changes; the result does not depend on how fast they are.

    Returns
    -------
    Network
        With at most as many parameters, and the same output code for every input.
    """
    points = grid(network.setting, network.inputs)
    wanted, budget = network.codes(points), _Effort(effort)
    before = None
    while before != network.size and budget.left > 0:
        before = network.size
        network = _merged(network, points)
        if network.setting.has_zero:
            network = _thinned(network, points, budget)
            network = _read(network)
        network = _without_idle_neurons(network, points, wanted, budget)
    return network if np.array_equal(network.codes(points), wanted) else _refuse()


def _refuse() -> Network:
    raise AssertionError("shrinking changed an output; this is a mistake in the library")


def _hidden(network: Network, points: np.ndarray) -> list[np.ndarray]:
    """Codes (points, neurons) that enter every layer, the inputs first."""
    entries, m = np.array(network.table, np.int64), network.setting.largest
    sums = list(network.sums(points))
    return [points.astype(np.int64)] + [entries[nearest(network.setting, s) + m] for s in sums[:-1]]


def _replaced(network: Network, index: int, *layers: Layer) -> Network:
    made = list(network.layers)
    made[index : index + len(layers)] = layers
    return replace(network, layers=tuple(made))


def _read(network: Network) -> Network:
    """Drop hidden neurons that nothing reads."""
    for i in range(len(network.layers) - 2, -1, -1):
        here, above = network.layers[i], network.layers[i + 1]
        used = above.weights.any(axis=0)
        if not used.all() and used.any():
            network = _replaced(
                network, i, Layer(here.weights[used], here.biases[used]), Layer(above.weights[:, used], above.biases)
            )
    return network


def _merged(network: Network, points: np.ndarray) -> Network:
    """Join neurons of a layer that show the same codes everywhere, where one weight can hold both."""
    for i in range(len(network.layers) - 1):
        shown = _hidden(network, points)[i + 1]
        here, above = network.layers[i], network.layers[i + 1]
        weights, keep = above.weights.copy(), np.ones(len(here.biases), bool)
        largest = max(network.setting.weight_codes)
        groups: dict[bytes, list[int]] = {}
        for n in range(shown.shape[1]):
            groups.setdefault(shown[:, n].astype(np.int32).tobytes(), []).append(n)
        for group in groups.values():
            for position, n in enumerate(group):
                for other in group[:position]:
                    if not keep[other]:
                        continue
                    total = weights[:, other] + weights[:, n]
                    if network.setting.has_zero and np.abs(total).max(initial=0) <= largest:
                        weights[:, other], keep[n] = total, False
                        break
                    if not network.setting.has_zero and not total.any():
                        keep[n] = keep[other] = False  # they cancel in every neuron above
                        break
        if not keep.all() and keep.any():
            network = _replaced(
                network, i, Layer(here.weights[keep], here.biases[keep]), Layer(weights[:, keep], above.biases)
            )
    return network


def _thinned(network: Network, points: np.ndarray, budget: _Effort) -> Network:
    """Set to zero the weights and biases without which a neuron shows the same codes."""
    entries, m, setting = np.array(network.table, np.int64), network.setting.largest, network.setting
    hidden = _hidden(network, points)
    for i, layer in enumerate(network.layers):
        last = i == len(network.layers) - 1
        weights, biases = layer.weights.copy(), layer.biases.copy()
        sums = (hidden[i].astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64) + biases
        for n in range(len(biases)):
            if not budget.spend(len(points) * (1 + np.count_nonzero(weights[n]))):
                break

            def shown(total: np.ndarray) -> np.ndarray:
                codes = nearest(setting, total)
                return codes if last else entries[codes + m]  # noqa: B023

            total, want = sums[:, n], shown(sums[:, n])
            if biases[n] and np.array_equal(shown(total - biases[n]), want):
                total, biases[n] = total - biases[n], 0
            for source in np.flatnonzero(weights[n]):
                less = total - weights[n, source] * hidden[i][:, source]
                if np.array_equal(shown(less), want):
                    total, weights[n, source] = less, 0
        network = _replaced(network, i, Layer(weights, biases))
    return network


def _without_idle_neurons(network: Network, points: np.ndarray, wanted: np.ndarray, budget: _Effort) -> Network:
    """Drop hidden neurons without which every output stays the same; the widest layers are tried last."""
    for i in range(len(network.layers) - 2, -1, -1):
        n = 0
        while n < len(network.layers[i].biases):
            if not budget.spend(len(points) * sum(layer.weights.size for layer in network.layers)):
                return network
            here, above = network.layers[i], network.layers[i + 1]
            if len(here.biases) == 1:
                break
            keep = np.arange(len(here.biases)) != n
            tried = _replaced(
                network, i, Layer(here.weights[keep], here.biases[keep]), Layer(above.weights[:, keep], above.biases)
            )
            if np.array_equal(tried.codes(points), wanted):
                network = tried
            else:
                n += 1
    return network
