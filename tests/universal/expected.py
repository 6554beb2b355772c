"""The verdicts that the criteria must give: tables worked out separately, from separately rounded activations.

R: universal. Not: k, the table is constant; c, covering fails; x, some pair of inputs is not told apart.
"""

from __future__ import annotations

CURVED = "identity relu elu silu mish gelu tanh hardtanh abs"

# (weights, biases, inputs): columns "p,s", then rows of activations that share verdicts. Ties half_up.
TABLES = {
    ("full", "values", (1, 2, 5)): (
        "1,1 1,2 1,3 2,1 2,2 2,4 2,6 2,7 3,4 3,8 3,14 3,15 4,8 4,16 4,30 4,32",
        {
            "identity relu leaky_relu elu silu mish gelu tanh hardtanh step abs": "R R x R R R R x R R R x R R R x",
            "sigmoid": "R k k R R R R k R R R x R R R x",
            "softplus": "R k k R R R k k R R k k R R R k",
            "hardsigmoid": "R k k R R R k k R R R x R R R x",
            "sign": "R R x c c c R x c c R x c c R x",
            "gaussian": "R k k R R R k k R R k k R R k k",
            "cos": "k k k R R k k k R R k k R R k k",
        },
    ),
    ("binary", "wide", (1, 2, 3)): (
        "1,1 1,2 1,3 2,1 2,2 2,4 2,7 3,1 3,4 3,15 4,32",
        {
            CURVED: "R R R R R R R R R R R",
            "sigmoid": "R k k R R R k R R R R",
            "softplus": "R k k R R R k R R k k",
            "step sign3": "R R R R c c c R c c c",
            "sign": "R R R c c c c c c c c",
        },
    ),
    ("binary", "values", (2,)): (
        "1,1 2,1 2,2 2,4 3,1 3,2 3,4 3,8 4,4 4,8 4,16",
        {
            "identity relu elu silu mish gelu": "R R R R R R R R R R R",
            "softplus": "R R R x R R R x R R R",
            "sigmoid": "R x R R x x x R x x x",
            "tanh": "R x R R x x R R x R R",
            "hardtanh": "R x R R x x x R x x R",
            "abs": "x x x x x x x x x x x",
            "step": "R x c c x c c c c c c",
        },
    ),
}

# (p, s, table or name, weights, biases, inputs, tie rules) → letter
EVERY = "half_up half_down half_away half_toward_zero half_even"
SINGLE = (
    (2, 5, (-3, -3, -3, 3, 3, 3, 3), "full", "values", 1, "half_up", "R"),
    (2, 4, (-3, -3, -3, 3, 3, 3, 3), "full", "values", 1, "half_up", "c"),
    (3, 13, "sign", "full", "values", 1, "half_up", "R"),
    (2, 1, (1, 1, 1, 1, 3, 3, 3), "full", "values", 1, "half_up", "c"),
    *((2, s, (0, 1, 0, 0, 0, 1, 0), "full", "values", 1, "half_up", "R") for s in range(1, 7)),
    *((2, s, (0, 1, 0, 0, 0, 1, 0), "binary", "values", 1, "half_up", "x") for s in (1, 2, 5)),
    *((2, s, (0, 1, 0, 0, 0, 1, 0), "binary", "wide", 1, "half_up", "R") for s in (1, 2, 5)),
    (2, 1, (0, 0, 0, 0, 1, 1, 1), "binary", "values", 1, "half_up", "R"),
    (2, 1, (0, 0, 0, 0, 1, 1, 1), "binary", "values", 2, "half_up", "x"),
    (1, 2, "square", "full", "values", 1, "half_up", "R"),
    (1, 2, "square", "full", "values", 1, "half_away", "x"),
    (1, 2, "square", "full", "values", 1, "half_even", "k"),
    *((1, 2, table, "full", "values", 1, "half_away", "x") for table in ((1, 0, 1), (0, 1, 0))),
    *(
        (1, 2, table, "full", "values", 1, "half_up half_down half_toward_zero half_even", "R")
        for table in ((1, 0, 1), (0, 1, 0))
    ),
    (2, 6, (0, 0, 1, 0, 0, 0, 0), "full", "values", 1, "half_even", "x"),
    (2, 6, (0, 0, 1, 0, 0, 0, 0), "full", "values", 1, "half_up half_down half_away half_toward_zero", "R"),
    (2, 4, (-2, -2, -2, 3, 3, 3, 3), "full", "values", 1, "half_up half_down half_away", "c"),
    (2, 4, (-2, -2, -2, 3, 3, 3, 3), "full", "values", 1, "half_toward_zero half_even", "R"),
)
