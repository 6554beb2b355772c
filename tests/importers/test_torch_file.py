"""Files from torch are read without executing what they hold, and refused with advice where they are something else."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.networks import NETWORKS
from fixqnn.errors import BadFile, BadInput
from fixqnn.importers.torch import from_torch, load_weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    network = NETWORKS["lenet"]()
    path = tmp_path_factory.mktemp("saved") / "lenet.pt2"
    program = torch.export.export(network.build(), network.example(2), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return path


def test_a_saved_program_gives_the_graph_of_the_module(saved):
    network = NETWORKS["lenet"]()
    graph, direct = from_torch(saved), from_torch(network.build(), network.example(1))
    assert str(graph) == str(direct)
    assert graph.nodes == direct.nodes
    assert all(np.array_equal(graph.constants[name], direct.constants[name]) for name in direct.constants)


def rewritten(source, target, change):
    """Copy an archive with parts changed: `change` gets name and content and returns the content or None."""
    changed = False
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            changed = changed or content != old.read(name)
            if content is not None:
                new.writestr(name, content)
    assert changed
    return target


def test_an_archive_that_hides_code_is_not_opened(saved, tmp_path):
    def pickled(name, content):
        if not name.endswith("weights_config.json"):
            return content
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    def operator(name, content):
        return content.replace(b'"torch.ops.aten.tanh.default"', b'"torch.serialization.os.getcwd"')

    def size(name, content):
        return content.replace(b'"expr_str": "S', b'"expr_str": "__import__(\'os\').getcwd() or S')

    def sample(name, content):
        return b"\x80\x02cos\ngetcwd\n(tR." if name.startswith("data/sample_inputs") else content

    def nested(name, content):
        return content.replace(b'\\"builtins.dict\\"', b'\\"collections.defaultdict\\"')

    def foreign(name, content):
        if not name.endswith("constants_config.json"):
            return content
        return json.dumps({"config": {"thing": {"path_name": "opaque_obj_0", "use_pickle": False}}}).encode()

    def enumerated(name, content):
        if name != "models/model.json":
            return content
        model = json.loads(content)
        signature = model["graph_module"]["module_call_graph"][0]["signature"]
        spec = json.loads(signature["in_spec"])
        spec[1]["children_spec"][1]["context"] = json.dumps([{"__enum__": True, "fqn": "os:name", "name": "x"}])
        signature["in_spec"] = json.dumps(spec)
        return json.dumps(model).encode()

    reasons = {
        foreign: r"an object that is no tensor \(opaque_obj_0\)",
        enumerated: "named by an enum",
        pickled: "a tensor stored as pickle",
        operator: r"an operator outside torch\.ops",
        size: "a size that is not plain arithmetic",
        sample: "full pickle",
        nested: "nested in a collections.defaultdict",
    }
    for change, reason in reasons.items():
        path = rewritten(saved, tmp_path / f"{change.__name__}.pt2", change)
        with pytest.raises(BadFile, match=reason):
            from_torch(path)
    path = tmp_path / "library.pt2"
    path.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("lenet/data/aotinductor/model/run.so", b"")
    with pytest.raises(BadFile, match="no part of a plain exported program"):
        from_torch(path)


def test_files_that_are_no_program_are_refused_with_advice(saved, tmp_path):
    text = tmp_path / "notes.pt2"
    text.write_text("no model")
    weights = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    disguised = tmp_path / "disguised.pt2"
    disguised.write_bytes(weights.read_bytes())
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(saved.read_bytes()[:-2000])
    empty = rewritten(
        saved, tmp_path / "empty.pt2", lambda name, content: None if name.startswith("models/") else content
    )
    with pytest.raises(BadFile, match=r"notes\.pt2 is not a model saved by torch\.export\.save; save one with"):
        from_torch(text)
    for path in (weights, disguised):
        with pytest.raises(
            BadFile,
            match=r"is not a model saved by torch\.export\.save; a file of weights holds no network.*load_weights",
        ):
            from_torch(path)
    for path in (cut, empty):
        with pytest.raises(BadFile, match=r"is not a model saved|cannot be read by torch"):
            from_torch(path)
    with pytest.raises(BadFile, match="is not there"):
        from_torch(tmp_path / "nowhere.pt2")


class Hidden:
    """Runs code when unpickled: what a weights file must not be able to do."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_weights_are_loaded_from_both_kinds_of_file_and_checked(tmp_path, capsys):
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(net.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        nn.init.zeros_(other.weight)
        assert load_weights(other, tmp_path / name) is other
        assert torch.equal(other.weight, net.weight)
    with pytest.raises(BadInput, match=r"(?s)not those of this Conv2d.*size mismatch"):
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "a.pt")
    torch.save({"weight": Hidden()}, tmp_path / "bad.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"0")
    for name in ("bad.pt", "bad.safetensors", "nowhere.pt"):
        with pytest.raises(BadFile):
            load_weights(other, tmp_path / name)
    assert "unpickled" not in capsys.readouterr().out
