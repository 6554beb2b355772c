"""The listing of a closure: layer after layer, until all functions are reached, or nothing new can come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fixqnn.universal.closure_arithmetic import Arithmetic
from fixqnn.universal.closure_common import Offer, offers
from fixqnn.universal.closure_lattice import combinations, sufficient
from fixqnn.universal.closure_search import Budget, Layer, Rows, first_layer, next_layer, set_terms
from fixqnn.universal.constructions.layers import grid

__all__ = ["LEAST", "Listing", "Progress", "Setup", "every_neuron_free", "terms_in_common"]

LEAST = 1000
ENOUGH = 2_000_000  # additions that look for networks where it is known which functions have one

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Setup:
    """What is listed, and how much may be spent.

    Attributes
    ----------
    arithmetic : Arithmetic
        Of the datapath.
    wider : Arithmetic
        The same, but a wide register is followed further: for the layer that reads the inputs, whose sums are short, and for
        terms in common, where no states but those that are met need room.
    table : ndarray of int
        The activation: a code + M for every code + M.
    inputs : int
        d.
    progress : callable or None
        Is told how many functions are reached.
    """

    arithmetic: Arithmetic
    wider: Arithmetic
    table: np.ndarray
    inputs: int
    progress: Progress | None

    @property
    def points(self) -> int:
        """Inputs of the grid."""
        return self.arithmetic.points

    @property
    def functions(self) -> int:
        """How many functions there are."""
        return len(self.table) ** self.points

    def rows(self) -> Rows:
        """Make an empty set of functions."""
        return Rows((len(self.table),) * self.points)

    def hidden(self, layer: Layer) -> Rows:
        """What the activation makes of a layer's functions."""
        rows = self.rows()
        if layer.functions.size:
            rows.add(self.table[layer.functions.array].astype(np.uint16))
        return rows


@dataclass
class Listing:
    """What was reached.

    Attributes
    ----------
    reached : Rows
        Functions found.
    layers : list of Layer
        Output layers: what they read, and the functions of networks that end there.
    offers : list of Offer or None
        Per layer what it reads, where neurons share their terms; None for the inputs, and where each has its own.
    complete : bool
        Whether nothing else is reached by any network.
    sums : bool
        Whether some functions are reached as integer combinations of terms, and no network for them is listed.
    cut : bool
        Whether a limit ended it.
    """

    reached: Rows
    layers: list[Layer] = field(default_factory=list)
    offers: list[Offer | None] = field(default_factory=list)
    complete: bool = False
    sums: bool = False
    cut: bool = False

    def counts(self) -> tuple[int, ...]:
        """How many functions the output layers behind 0, 1, 2 … hidden layers hold."""
        by_depth: dict[int, list[np.ndarray]] = {}
        for number, (layer, offer) in enumerate(zip(self.layers, self.offers, strict=True)):
            by_depth.setdefault(offer.depth if offer else number, []).append(layer.functions.array)
        sizes = {
            depth: len(found[0]) if len(found) == 1 else len(np.unique(np.concatenate(found), axis=0))
            for depth, found in by_depth.items()
        }
        return tuple(sizes[depth] for depth in sorted(sizes))


def every_neuron_free(setup: Setup, budget: Budget) -> Listing:
    """List layers whose neurons choose their terms freely, as a zero among the weights allows; else an upper bound."""
    listing = Listing(setup.rows())
    first = Layer(setup.wider, setup.points, 1)
    points = grid(setup.arithmetic.setting, setup.inputs)
    listing.layers.append(first)
    listing.offers.append(None)
    _note(setup, listing, first_layer(first, points.T))
    hidden, repeated = [setup.hidden(first)], False
    while hidden[-1].size and not repeated and listing.reached.size < setup.functions and budget.left >= LEAST:
        layer = _read(setup, listing, hidden[-1].array, budget)
        listing.offers.append(None)
        hidden.append(setup.hidden(layer))
        repeated = any(hidden[-1].same_as(earlier) for earlier in hidden[:-1])
    listing.cut = budget.left < LEAST or any(layer.cut for layer in listing.layers)
    listing.complete = (repeated or not hidden[-1].size) and all(layer.complete for layer in listing.layers)
    listing.complete |= listing.reached.size == setup.functions
    return listing


def terms_in_common(setup: Setup, free: Listing, budget: Budget) -> Listing:
    """List layers whose neurons read the same terms, as weights without a zero make them.

    Parameters
    ----------
    setup : Setup
        The question.
    free : Listing
        Of `every_neuron_free`: nothing else can be reached, if it is complete. Its first two layers hold here as well, for
        the first reads the inputs, and what the first offers has no terms but these.
    budget : Budget
        To be spent.
    """
    listing = Listing(setup.rows(), free.layers[:1], [None])
    listing.complete = free.layers[0].complete
    _note(setup, listing, free.layers[0].functions.array)
    most = free.reached.size if free.complete else setup.functions
    tried: list[Offer] = []
    waiting = [Offer(setup.hidden(free.layers[0]).array)]
    while waiting and listing.reached.size < most:
        if budget.left < LEAST:
            listing.complete = False
            break
        offer = waiting.pop(0)
        if not len(offer.functions) or any(offer.within(other) for other in tried):
            continue
        tried.append(offer)
        if offer.depth == 1 and len(free.layers) > 1:
            layer = free.layers[1]
            listing.layers.append(layer)
            _note(setup, listing, layer.functions.array)
            listing.sums = layer.functions.size > layer.listed
        else:
            layer = _read(setup, listing, offer.functions, budget)
        listing.offers.append(offer)
        listing.complete &= layer.complete
        if listing.reached.size < most:
            share = Budget(budget.left // 2)
            budget.left -= share.left
            found, all_found = offers(setup.wider, offer, setup.table, share)
            budget.left += max(share.left, 0)
            listing.complete &= all_found
            waiting = sorted([*waiting, *found], key=lambda offer: -len(offer.functions))
    listing.cut = budget.left < LEAST or any(layer.cut for layer in listing.layers)
    listing.complete |= listing.reached.size == most and (free.complete or most == setup.functions)
    return listing


def _note(setup: Setup, listing: Listing, functions: np.ndarray) -> None:
    """Note functions that were reached."""
    if len(functions):
        listing.reached.add(functions.astype(np.uint16))
    if setup.progress is not None:
        setup.progress(listing.reached.size, setup.functions)


def _read(setup: Setup, listing: Listing, functions: np.ndarray, budget: Budget) -> Layer:
    """List what single neurons make of functions; complete when the search ends, or has found all that there can be."""
    arithmetic = setup.arithmetic
    layer = Layer(arithmetic, setup.points, 1 + len(listing.layers))
    listing.layers.append(layer)
    set_terms(layer, functions.astype(np.int64) - arithmetic.setting.largest)
    sums = combinations(arithmetic, layer.terms)
    most = sums.functions.size if sums is not None and sums.no_others else setup.functions

    def news(functions: np.ndarray) -> bool:
        _note(setup, listing, functions)
        return listing.reached.size == setup.functions or layer.functions.size == most

    known = sums is not None and sums.reached
    share = Budget(min(budget.left // 2, ENOUGH) if known else budget.left // 2)
    budget.left -= share.left
    next_layer(layer, sufficient(arithmetic, layer.terms), share, news)
    budget.left += max(share.left, 0)
    if known and layer.functions.size < sums.functions.size:
        layer.functions.add(sums.functions.array)
        _note(setup, listing, sums.functions.array)
        listing.sums = True
    layer.complete |= layer.functions.size == most
    return layer
