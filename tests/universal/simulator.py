"""A network of the theory, neuron by neuron in Python integers: shares nothing with the library."""

from __future__ import annotations

from itertools import product

TIES = ("half_up", "half_down", "half_away", "half_toward_zero", "half_even")


def rounded(total: int, s: int, ties: str) -> int:
    """The integer next to total / s; a tie goes where the rule says."""
    below, rest = total // s, total % s
    if 2 * rest != s:
        return below + (2 * rest > s)
    match ties:
        case "half_up":
            return below + 1
        case "half_down":
            return below
        case "half_away":
            return below + (total > 0)
        case "half_toward_zero":
            return below + (total < 0)
        case "half_even":
            return below + below % 2


def whole(number) -> int:
    assert number == int(number), f"{number} is no multiple of the unit"
    return int(number)


def simulate(graph, table: list[int], p: int, s: int, ties: str) -> list[int]:
    """Output codes of all inputs in C order, from the real numbers that the graph's constants stand for."""
    most = 2**p - 1
    layers = []
    for node in graph.nodes:
        if node.op.name == "linear":
            w, b = (graph.constants[name].format.decode_exact(graph.constants[name].codes) for name in node.inputs[1:])
            neurons = [
                ([(i, whole(v * s)) for i, v in enumerate(row) if v], whole(bias * s * s))
                for row, bias in zip(w, b, strict=True)
            ]
            layers.append((neurons, w.shape[1]))
    outputs = []
    for codes in product(range(-most, most + 1), repeat=layers[0][1]):
        values = list(codes)
        for neurons, _ in layers:
            totals = [sum((w * values[i] for i, w in weights), bias) for weights, bias in neurons]
            shown = [max(-most, min(most, rounded(total, s, ties))) for total in totals]
            values = [table[k + most] for k in shown]
        outputs.append(shown[0])
    return outputs
