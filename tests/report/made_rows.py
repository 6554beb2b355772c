"""Rows of sweeps that were never run: every number follows from the settings, so that tests know what a picture must show."""

from __future__ import annotations

from typing import Any

from fixqnn.sweeps.rows import Rows

TOTAL = 500
LAYERS = ("stem", "block.conv1", "fc")


def row(weights: int, activations: int, machine: str = "ideal", **changed: Any) -> dict[str, Any]:
    """A computed row; accuracy grows with both widths and saturates, a narrow machine overflows from 10 bits together."""
    right = round(TOTAL * (0.99 - 0.8 * 2.0**-weights - 0.6 * 2.0**-activations))
    excess = max(0, weights + activations - 10) if machine == "narrow" else 0
    events = {layer: {"sum[0]": 100 * excess * (i + 1), "output": 7} for i, layer in enumerate(LAYERS)}
    return {
        "key": f"{machine}/{weights}/{activations}", "settings": {"weights": weights, "activations": activations},
        "machine": f"{machine}(16x16)", "machine_text": machine, "status": "ok", "reason": "",
        "accuracy": right / TOTAL, "accuracy_low": right / TOTAL - 0.02, "accuracy_high": min(1.0, right / TOTAL + 0.01),
        "right": right, "total": TOTAL, "float_accuracy": 0.99, "p": 0.5, "changed": TOTAL - right,
        "sqnr": 6.0 * min(weights, activations), "events": sum(r["sum[0]"] for r in events.values()), "clips": 21,
        "layer_events": events, "weight_bits": 1000 * weights, "value_bits": 300 * activations, "macs": 10_000,
        "bit_operations": 10_000 * weights * activations, "accumulator_bits": 8 + weights + activations, "seconds": 0.25,
        "fingerprint": f"{weights:08x}{activations:08x}", "seed": 3, "versions": {"fixqnn": "0.1.0"},
        "created": "2026-01-02T03:04:05+00:00", "samples_used": TOTAL, **changed,
    }  # fmt: skip


def unlabelled(one: dict[str, Any]) -> dict[str, Any]:
    """The same row of a test set without labels."""
    names = ("accuracy", "accuracy_low", "accuracy_high", "right", "total", "float_accuracy", "p")
    return {**one, **dict.fromkeys(names)}


def impossible(
    weights: int, activations: int, machine: str = "narrow", reason: str = "DoesNotFit: too wide"
) -> dict[str, Any]:
    """A row that the machine cannot compute."""
    kept = ("key", "settings", "machine", "machine_text", "seed", "versions", "created")
    one = row(weights, activations, machine)
    return {**{name: one[name] for name in kept}, "status": "impossible", "reason": reason}


def grid(machines: tuple[str, ...] = ("ideal", "narrow")) -> Rows:
    """Widths 3 … 6 × 4 … 6 on each machine; `narrow` cannot take weights of 3 bits."""
    rows = [
        impossible(w, a, machine) if machine == "narrow" and w == 3 else row(w, a, machine)
        for machine in machines
        for w in (3, 4, 5, 6)
        for a in (4, 5, 6)
    ]
    meta = {
        "command": "fixqnn sweep net.pt2 --store rows.sqlite",
        "sensitivity": {"stem": 0.7, "block.conv1": 0.1, "fc": 0.2},
    }
    return Rows(rows, meta)
