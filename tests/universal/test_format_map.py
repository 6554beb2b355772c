"""Maps of formats, and the command line verb."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.cli import main

map_formats = fq.universal.map_formats


def test_a_map_holds_the_verdict_of_every_format():
    found = map_formats("sign", p=[2, 3], s=range(4, 8), weights="ternary", bias="wide", rounding="half_even", inputs=2)
    for p in (2, 3):
        for s in range(4, 8):
            verdict = fq.universal.decide("sign", fq.symmetric(p, s), "ternary", "wide", "half_even", 2)
            assert found[p, s] == verdict
    assert [len(row) for row in found.letters()] == [4, 4]
    assert [(row["p"], row["s"]) for row in found.rows()] == [(p, s) for p in (2, 3) for s in range(4, 8)]
    assert str(found).splitlines()[2].split() == ["2", *found.letters()[0]]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_map_is_drawn(tmp_path, ending):
    path = map_formats("sigmoid", p=range(1, 4), s=range(1, 40, 3)).save(tmp_path / f"map.{ending}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(start)


def test_a_figure_has_a_field_and_a_letter_for_every_format():
    found = map_formats("relu", p=[1, 2], s=[1, 2, 3])
    axes = found.figure().axes[0]
    assert axes.images[0].get_array().shape == (2, 3)
    assert [text.get_text() for text in axes.texts] == list("".join(found.letters())) == list("RRxRRR")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"p": []}, "at least one p"),
        ({"s": [0]}, "s must be at least 1"),
        ({"p": "12"}, "p must be an integer"),
        ({"weights": "binray"}, "did you mean 'binary'"),
        ({"inputs": 0}, "inputs must be at least 1"),
    ],
)
def test_maps_that_make_no_sense(arguments, words):
    with pytest.raises(fq.BadInput, match=words):
        map_formats("relu", **({"p": [1], "s": [1]} | arguments))


def test_a_map_needs_an_activation_for_every_format(tmp_path):
    with pytest.raises(fq.BadInput, match="not a table of codes"):
        map_formats([0, 1, 1])
    with pytest.raises(fq.BadInput, match="the map has no format"):
        map_formats("relu", p=[1], s=[1])[2, 2]
    with pytest.raises(fq.BadInput, match="must end in one of"):
        map_formats("relu", p=[1], s=[1]).save(tmp_path / "map.xyz")


def call(capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as done:
        main(["universal", *map(str, arguments)])
    assert done.value.code == status
    out = capsys.readouterr()
    return out.out if status == 0 else out.err


def test_the_verb_prints_verdict_reason_and_certificate(capsys):
    out = call(capsys, "sigmoid", "--p", 2, "--s", 1, "--weights", "binary", "--inputs", 2, "--check")
    assert "NO, not every function" in out
    assert "certificate: no neuron of the first layer tells the input codes (-3, -3) and (-2, -2) apart" in out
    assert out.rstrip().endswith("the certificate holds")


def test_the_verb_speaks_json(capsys):
    facts = json.loads(
        call(capsys, "gelu", "--p", 3, "--s", 4, "--weights", "binary", "--bias", "wide", "--json", "--check")
    )
    assert facts["universal"] is True
    assert facts["certificate"]["kind"] == "Recipe"
    assert facts["check"]["holds"] is True
    facts = json.loads(call(capsys, "relu", "--p", "1..2", "--s", "1,3", "--map", "--json"))
    assert facts["letters"] == ["Rx", "RR"]


def test_the_verb_takes_tables(capsys, tmp_path):
    codes = [-3, -3, -3, 3, 3, 3, 3]
    assert "YES" in call(capsys, "--p", 2, "--s", 5, "--", ",".join(map(str, codes)))
    np.save(tmp_path / "table.npy", codes)
    assert "misses" not in call(capsys, tmp_path / "table.npy", "--p", 2, "--s", 4)
    assert "never round to code" in call(capsys, tmp_path / "table.npy", "--p", 2, "--s", 4)


def test_the_verb_draws_a_map(capsys, tmp_path):
    out = call(capsys, "tanh", "--p", "1..3", "--s", "1..8", "--map", "-o", tmp_path / "map.svg")
    assert "R: every function can be computed" in out
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gleu", "--p", 2, "--s", 1), "did you mean gelu"),
        (("relu", "--p", "1..2", "--s", 1), "are several formats; add --map"),
        (("relu", "--p", 0, "--s", 1), "p must be at least 1, not 0"),
        (("relu", "--p", 1, "--s", 1.5), "s must be an integer"),
        (("relu", "--p", 1, "--s", 1, "-o", "a.png"), "only a map is drawn"),
        (("nothing.npy", "--p", 1, "--s", 1), "nothing.npy"),
        (("relu", "--p", 1, "--s", 1, "--rounding", "floor"), "must round to the nearest"),
    ],
)
def test_the_verb_refuses_with_one_message(capsys, arguments, words):
    err = call(capsys, *arguments, status=2)
    assert words in err
    assert "Traceback" not in err


def test_a_map_is_not_written_where_nothing_can_be(capsys, tmp_path):
    (tmp_path / "file").touch()
    for folder in ("nowhere", "file"):
        path = tmp_path / folder / "map.png"
        with pytest.raises(fq.BadFile, match=r"cannot write .*map\.png: "):
            map_formats("relu", 1, 1).save(path)
        err = call(capsys, "relu", "--p", 1, "--s", 1, "--map", "-o", path, status=2)
        assert f"cannot write {path}: there is no folder" in err


def test_formats_of_a_map_are_whole_numbers():
    for wrong in ([[1]], "3", 2.0, True, [None]):
        with pytest.raises(fq.BadInput, match="p must be an integer"):
            map_formats("relu", p=wrong, s=1)
