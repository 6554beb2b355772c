"""Figures show the numbers of their rows, at their places, and refuse where there is nothing to draw."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.sweeps.store import Store
from tests.report.made_rows import LAYERS, grid, impossible, row, unlabelled


def lines(axes, label):
    return next(line for line in axes.get_lines() if line.get_label() == label)


def test_pareto_draws_every_computed_row_and_the_unbeaten_ones_as_a_line():
    rows = grid()
    axes = fq.plot_pareto(rows).axes[0]
    dots = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    drawn = sorted((x, y) for line in dots for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert drawn == sorted((r["bit_operations"], r["accuracy"]) for r in rows.ok)
    assert axes.get_xlabel() == "bit operations per sample"
    assert axes.get_ylabel() == "accuracy"
    ideal = [r for r in rows.ok if r["machine_text"] == "ideal"]
    unbeaten = sorted(
        {
            (r["bit_operations"], r["accuracy"])
            for r in ideal
            if not any(
                o["accuracy"] >= r["accuracy"] and o["bit_operations"] <= r["bit_operations"]
                and (o["accuracy"], o["bit_operations"]) != (r["accuracy"], r["bit_operations"])
                for o in ideal
            )
        }
    )  # fmt: skip
    front = lines(axes, "ideal")
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == unbeaten
    assert 2 < len(unbeaten) < len(ideal)
    assert "float 99.0 %" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_pareto_takes_other_columns_and_says_which_there_are():
    rows = [unlabelled(r) for r in grid().ok]
    axes = fq.plot_pareto(rows, x="weight_bits", y="sqnr").axes[0]
    assert axes.get_xlabel() == "weights in memory, bits"
    assert "SQNR" in axes.get_ylabel()
    with pytest.raises(fq.BadInput, match=r"column 'accuracy' holds no numbers; there are numbers in .*sqnr"):
        fq.plot_pareto(rows)
    with pytest.raises(fq.BadInput, match=r"no column of numbers 'acuracy'; did you mean 'accuracy'"):
        fq.plot_pareto(rows, y="acuracy")


def test_costs_far_apart_are_drawn_logarithmically():
    near, far = ([row(4, 4, bit_operations=b), row(5, 4, bit_operations=100)] for b in (50, 1))
    assert [fq.plot_pareto(rows).axes[0].get_xscale() for rows in (near, far)] == ["linear", "log"]


def test_the_best_row_at_each_width_has_its_interval():
    rows = grid()
    axes = fq.plot_accuracy_against_width(rows, "weights").axes[0]
    assert axes.get_xlabel() == "bits of weights"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "4", "5", "6"]
    bars = {container.get_label(): container for container in axes.containers}
    assert set(bars) == {"ideal", "narrow"}
    line, _, (whiskers,) = bars["ideal"].lines
    best = [row(w, 6) for w in (3, 4, 5, 6)]
    assert list(line.get_ydata()) == [r["accuracy"] for r in best]
    ends = [segment[:, 1] for segment in whiskers.get_segments()]
    np.testing.assert_allclose(ends, [(r["accuracy_low"], r["accuracy_high"]) for r in best])  # low + length, in floats
    assert len(bars["narrow"].lines[0].get_xdata()) == 3  # 3 bits are impossible there


def test_without_labels_the_widths_are_drawn_by_sqnr_without_intervals():
    axes = fq.plot_accuracy_against_width([unlabelled(r) for r in grid().ok], "activations").axes[0]
    assert axes.get_ylabel().startswith("SQNR")
    assert not axes.containers[0].has_yerr


def test_settings_that_are_words_stand_side_by_side():
    rows = [row(4, 4, settings={"weights": w}, accuracy=a) for w, a in (("ternary", 0.5), (4, 0.9), ("binary", 0.4))]
    axes = fq.plot_accuracy_against_width(rows).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["binary", "ternary", "4"]
    assert list(axes.containers[0].lines[0].get_ydata()) == [0.4, 0.5, 0.9]
    with pytest.raises(fq.BadInput, match="no computed row has the setting 'partial'; there are weights"):
        fq.plot_accuracy_against_width(rows, "partial")


def test_a_setting_that_is_called_as_a_column_is_the_setting():
    rows = [row(4, 4, settings={"accumulator_bits": b}, accumulator_bits=62, accuracy=b / 32) for b in (8, 16)]
    axes = fq.plot_accuracy_against_width(rows, "accumulator_bits").axes[0]
    assert list(axes.containers[0].lines[0].get_xdata()) == [8, 16]
    assert [line.get_xdata().tolist() for line in fq.plot_pareto(rows, "accumulator_bits").axes[0].get_lines()[:1]] == [
        [62, 62]
    ]


def test_a_heat_map_holds_every_cell_once_and_crosses_out_impossible_ones():
    figure = fq.plot_heat_map(grid())
    ideal, narrow, _ = figure.axes
    values = np.ma.filled(ideal.get_images()[0].get_array().astype(float), np.nan)
    assert values.tolist() == [[row(w, a)["accuracy"] for w in (3, 4, 5, 6)] for a in (4, 5, 6)]
    assert [text.get_text() for text in narrow.texts].count("×") == 3
    assert (narrow.get_xlabel(), narrow.get_ylabel()) == ("bits of weights", "bits of activations")
    assert ideal.get_title(loc="left") == "ideal"


def test_of_rows_with_the_same_pair_the_best_is_in_the_heat_map():
    rows = [
        row(4, 4, accuracy=a, settings={"weights": 4, "activations": 4, "rounding": r})
        for a, r in ((0.8, "a"), (0.9, "b"))
    ]
    assert [t.get_text() for t in fq.plot_heat_map(rows).axes[0].texts] == ["90.0 %"]
    assert [t.get_text() for t in fq.plot_heat_map(rows, value="changed").axes[0].texts] == [str(row(4, 4)["changed"])]
    with pytest.raises(fq.BadInput, match="no row has both 'weights' and 'partial'"):
        fq.plot_heat_map(rows, y="partial")


def test_sensitivity_is_drawn_from_a_mapping_from_the_store_and_from_rows():
    axes = fq.plot_sensitivity({"a$b": 0.25, "c": 0.75}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", r"a\$b"]  # no formula
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]
    assert [bar.get_width() for bar in fq.plot_sensitivity(grid()).axes[0].patches] == [0.7, 0.2, 0.1]
    layered = [
        row(8, 8, accuracy=a, settings={"weights[stem]": s, "weights[fc]": f})
        for s, f, a in ((4, 4, 0.6), (8, 4, 0.9), (4, 8, 0.7), (8, 8, 1.0))
    ]
    axes = fq.plot_sensitivity(layered).axes[0]
    np.testing.assert_allclose(
        [bar.get_width() for bar in axes.patches], [0.75, 0.25]
    )  # 0.3 and 0.1 lost; means of floats
    with pytest.raises(fq.BadInput, match="nothing tells how much each layer matters"):
        fq.plot_sensitivity([row(4, 4)])


def test_register_events_are_means_per_sample_without_clips_of_outputs():
    axes = fq.plot_register_events(grid(), x="weights").axes[0]
    values = np.ma.filled(axes.get_images()[0].get_array().astype(float), np.nan)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LAYERS)
    # narrow, 6 bits of weights, 4, 5 and 6 of activations: 0, 100 and 200 in the stem, and 500 samples
    assert values[0, 3] == pytest.approx((0 + 100 + 200) / 3 / 500)  # sums of floats
    assert values[2, 3] == pytest.approx(3 * values[0, 3])
    assert axes.get_title(loc="left") == "narrow"
    with pytest.raises(fq.BadInput, match="no register inside a layer overflowed"):
        fq.plot_register_events(grid(("ideal",)))


def test_layers_that_are_silent_at_first_still_stand_in_their_order():
    rows = [
        row(4, 4, settings={"partial": p}, layer_events={layer: {"sum[0]": 1} for layer in layers})
        for p, layers in ((16, ("stem", "fc")), (14, ("stem", "conv", "fc")), (12, ("stem", "block", "conv")))
    ]
    labels = fq.plot_register_events(rows).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["stem", "block", "conv", "fc"]


PLOTS = (fq.plot_pareto, fq.plot_accuracy_against_width, fq.plot_heat_map, fq.plot_register_events)


@pytest.mark.parametrize("plot", PLOTS)
def test_rows_come_as_a_store_too_and_nothing_else_is_taken(plot, tmp_path):
    store = Store(tmp_path / "rows.sqlite", {})
    for one in grid():
        store.add(one)
    store.close()
    axes = plot(tmp_path / "rows.sqlite").axes[0]
    same = plot(grid()).axes[0]
    assert [line.get_xydata().tolist() for line in axes.get_lines()] == [
        line.get_xydata().tolist() for line in same.get_lines()
    ]
    assert [t.get_text() for t in axes.texts] == [t.get_text() for t in same.texts]
    for wrong, message in (
        ([], "there are no rows"),
        (7, "rows must be Rows"),
        ([7], "mappings of column to value, not 7"),
    ):
        with pytest.raises(fq.BadInput, match=message):
            plot(wrong)
    with pytest.raises(fq.BadInput, match=r"none of the 1 rows was computed|no register"):
        plot([impossible(4, 4)])


def test_figures_are_saved_and_leave_no_global_state(tmp_path):
    code = (
        "import sys; import fixqnn as fq; from tests.report.made_rows import grid\n"
        f"fq.plot_pareto(grid()).savefig({str(tmp_path / 'front.pdf')!r})\n"
        f"fq.plot_heat_map(grid()).savefig({str(tmp_path / 'map.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "front.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(fq.BadInput, match=r"pip install 'fixqnn\[plot\]'"):
        fq.plot_pareto(grid())
