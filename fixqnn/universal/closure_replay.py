"""From a reached function back to a network: which terms led to it, and to the functions in these terms."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.universal.closure_common import Offer
from fixqnn.universal.closure_listing import Listing
from fixqnn.universal.closure_search import Layer
from fixqnn.universal.constructions import layers as networks
from fixqnn.universal.grid import Setting

__all__ = ["network_of"]


def network_of(
    listing: Listing, number: int, row: np.ndarray, setting: Setting, table: tuple[int, ...], inputs: int
) -> networks.Network:
    """Derive the network of a function, codes + M, that output layer `number` of a listing holds."""
    codes = np.array(table, np.int64) + setting.largest
    layer, offer, first = listing.layers[number], listing.offers[number], listing.layers[0]
    if offer is None:
        wanted, made = _in_blocks(listing.layers[: number + 1], row, setting, codes)
    else:
        wanted, made = _in_common(layer, offer, row, setting)
        hidden = _first_with(codes[first.functions.array])
        wanted = [hidden[function] for function in wanted]
    weights, biases = np.zeros((len(wanted), inputs), np.int64), []
    for neuron, function in enumerate(wanted):
        word, bias = _word(first, function)
        for axis, weight in word:
            weights[neuron, axis] = setting.weight_codes[weight]
        biases.append(first.arithmetic.biases[bias])
    made.append(networks.Layer(weights, np.array(biases)))
    return networks.Network(setting, table, tuple(reversed(made)))


def _in_blocks(
    layers: Sequence[Layer], row: np.ndarray, setting: Setting, codes: np.ndarray
) -> tuple[list[int], list[networks.Layer]]:
    """Functions of the first layer, and the layers behind it from the last on, where weights may be zero.

    Every neuron has a block of its own in the layer before, with the terms of its sum in their order; it reads the
    others with weight zero. A block fills whole runs, so that no register holds anything of another block.
    """
    wanted, made = [_find(layers[-1], row)], []
    for layer, below in zip(reversed(layers[1:]), reversed(layers[:-1]), strict=True):
        hidden = _first_with(codes[below.functions.array])
        run = prod(size or 1 for size in layer.sizes)
        sources: list[int] = []
        blocks = {}
        for function in dict.fromkeys(wanted):
            word, bias = _word(layer, function)
            blocks[function] = (len(sources), [weight for _, weight in word], bias)
            chosen = [hidden[source] for source, _ in word] or [hidden[0]]
            sources += chosen + chosen[-1:] * (-len(chosen) % run)
        weights = np.zeros((len(wanted), len(sources)), np.int64)
        for neuron, function in enumerate(wanted):
            start, word, _ = blocks[function]
            weights[neuron, start : start + len(word)] = [setting.weight_codes[weight] for weight in word]
        biases = [layer.arithmetic.biases[blocks[function][2]] for function in wanted]
        made.append(networks.Layer(weights, np.array(biases)))
        wanted = sources
    return wanted, made


def _in_common(layer: Layer, offer: Offer, row: np.ndarray, setting: Setting) -> tuple[list[int], list[networks.Layer]]:
    """Which functions the first hidden layer has, and the layers behind it from the last on, where none is zero."""
    weight_codes = np.array(setting.weight_codes)
    word, bias = _word(layer, _find(layer, row))
    wanted, weights = zip(*word, strict=True)
    made = [networks.Layer(weight_codes[[weights]], np.array([layer.arithmetic.biases[bias]]))]
    while offer.below is not None:
        weights, biases = zip(*offer.neurons(wanted), strict=True)
        made.append(networks.Layer(weight_codes[list(weights)], np.array(biases)))
        wanted, offer = offer.word, offer.below
    return list(wanted), made


def _find(layer: Layer, row: np.ndarray) -> int:
    return int(np.flatnonzero((layer.functions.array == row).all(axis=1))[0])


def _first_with(functions: np.ndarray) -> list[int]:
    """For every different row, in the order of first appearance, where it first appears."""
    _, first = np.unique(functions, axis=0, return_index=True)
    return sorted(first.tolist())


def _word(layer: Layer, function: int) -> tuple[list[tuple[int, int]], int]:
    """The terms, as (function of the layer before, weight), in order, and the bias of a function."""
    if function >= layer.listed:
        raise BadInput(
            "the function is an integer combination of terms that the closure did not list one by one, and has no network "
            "here; for sums that are rounded once, build makes one"
        )
    for history in (layer.parents, layer.letters, layer.sources):
        history[:] = [np.concatenate(history)]
    (parents,), (letters,) = layer.parents, layer.letters
    state, way = layer.sources[0][function].tolist()
    bias, word = layer.arithmetic.ways_out[way][1], []
    while parents[state] >= 0:
        word.append(tuple(layer.origins[letters[state]].tolist()))
        state = int(parents[state])
    if bias < 0:
        bias = layer.arithmetic.starts[-1 - int(parents[state])][1]
    return word[::-1], bias
