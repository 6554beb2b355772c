"""Datapaths of all kinds for closures, and what networks give on them."""

from __future__ import annotations

from itertools import product

import fixqnn as fq
from fixqnn.universal.closure_table import datapath
from fixqnn.universal.constructions.layers import grid

ALL = list(product((-1, 0, 1), repeat=3))
WORD = fq.Register(2, "saturate_symmetric", rounding="half_up", drop=1)
TILED = fq.SumOfProducts(
    fq.Exact("half_up"), product=WORD,
    sum=(fq.Stage(fq.Register(2, "wrap"), size=2, out=fq.Register(2, "saturate_symmetric")), fq.Stage(fq.Register(3))),
)  # fmt: skip
MACHINES = {
    "every step": datapath("every step", 1, 2),
    "floor": datapath("floor", 1, 2),
    "wrap": datapath("wrap", 1, 2),
    "tiled": TILED,
    "three stages": fq.SumOfProducts(
        fq.Shift("half_even"),
        sum=(fq.Stage(fq.Register(2, "wrap"), size=2), fq.Stage(fq.Register(3), size=3), fq.Stage(fq.Register(3))),
    ),
    "one by one": fq.SumOfProducts(fq.Shift("half_even"), sum=(fq.Stage(fq.Register(2), within="row"), fq.Stage(fq.Register(3)))),
    "rounded sums": fq.SumOfProducts(fq.Shift(), sum=(fq.Stage(fq.Register(3, "wrap", rounding="half_up", drop=1)),)),
    "bias last": fq.SumOfProducts(fq.Multiplier(8), sum=(fq.Stage(fq.Register(3, "saturate_zero")),), bias="last"),
    "float": fq.SumOfProducts(fq.Float("float32"), sum=(fq.Stage(fq.Register(3, "saturate")),), bias="scaler"),
    "forbid": fq.SumOfProducts(fq.Exact("half_up"), product=WORD, sum=(fq.Stage(fq.Register(2, "forbid")),)),
    "zero": fq.SumOfProducts(fq.Exact("half_up"), product=WORD, sum=(fq.Stage(fq.Register(2, "saturate_zero")),)),
}  # fmt: skip


def outputs(network, machine):
    """Codes (functions, inputs) of every output neuron, on the exact engine; those that overflow what forbids it are left out."""
    program = fq.lower(network.graph(), machine)
    return fq.run(program, grid(network.setting, network.inputs), engine="exact").output.codes.T


def any_register(rng):
    overflow = rng.choice(["wrap", "saturate", "saturate_symmetric", "saturate_zero", "wrap_sign_magnitude"])
    rounding = rng.choice(["floor", "half_up", "half_even", "toward_zero"])
    return fq.Register(int(rng.integers(2, 4)), str(overflow), rounding=str(rounding), drop=int(rng.random() < 0.25))


def any_datapath(rng):
    inner = [
        fq.Stage(any_register(rng), size=int(rng.integers(1, 4)), out=any_register(rng) if rng.random() < 0.3 else None)
        for _ in range(rng.integers(0, 3))
    ]
    scalers = (fq.Exact("half_up"), fq.Shift("half_even"), fq.Multiplier(6), fq.Float())
    product_register = any_register(rng) if rng.random() < 0.6 else None
    stages = (*inner, fq.Stage(any_register(rng)))
    return fq.SumOfProducts(scalers[rng.integers(4)], product_register, stages, bias=("first", "last")[rng.integers(2)])
