"""From an exported program to a Graph: one walk over its operators, every problem noted, names from the modules."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.errors import BadInput, ImportProblems
from fixqnn.graph import Graph, Shape, Value
from fixqnn.importers.torch_call import Activation, Call, Constant, Draft, Rule, RunTimeNumber, Unsupported
from fixqnn.importers.torch_export import packet_of
from fixqnn.importers.torch_table import NEAREST

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

# operators whose name in a graph says little: the name that their node gets instead
WORDS = {
    "view": "reshape", "_unsafe_view": "reshape", "t": "transpose", "permute": "transpose", "constant_pad_nd": "pad",
    "_to_copy": "to", "convolution": "conv", "upsample_nearest1d": "interpolate", "upsample_nearest2d": "interpolate",
    "upsample_nearest3d": "interpolate", "_native_batch_norm_legit_no_training": "batch_norm", "clamp_min": "clamp",
    "clamp_max": "clamp",
}  # fmt: skip
OTHERWISE = "supported operators, or your own translation as ops={{{operator!r}: function}}"
FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)[^\n]*(?:\n\s+(?P<code>[^\n]+))?')


class _Missing:
    """Stands for a result that could not be made; what reads it is not looked at any further."""


MISSING = _Missing()


def read_program(program: ExportedProgram, rules: Mapping[str, Rule]) -> Graph:
    """Translate a program whose operators are functional; ImportProblems lists all that cannot be."""
    walk = _Walk(program, rules)
    for node in program.graph.nodes:
        walk.visit(node)
    outputs = walk.outputs()
    if walk.problems:
        count = len(walk.problems)
        listed = "\n".join(f"  {problem}" for problem in walk.problems)
        raise ImportProblems(
            f"{count} {'place' if count == 1 else 'places'} of this model cannot be imported:\n{listed}"
        )
    return walk.graph(outputs)


class _Walk:
    """What is known while walking: the value of every torch node, the graph so far, the problems so far."""

    def __init__(self, program: ExportedProgram, rules: Mapping[str, Rule]) -> None:
        self.program, self.rules = program, rules
        self.draft = Draft()
        self.values: dict[Any, Any] = {}
        self.problems: list[str] = []
        self.inputs: list[Value] = []
        self.batch: set[str] = set()
        self.parameters: dict[str, str] = {}  # placeholder → parameter or buffer
        self.tied: dict[tuple[Any, ...], Constant] = {}
        self._bind_inputs()

    # ------------------------------------------------------------------------------------------------------- inputs
    def _bind_inputs(self) -> None:
        signature = self.program.graph_signature
        places = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        users = [spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
        names = dict(zip(users, self._input_names(users), strict=True))
        tensors = [name for name in users if hasattr(places[name].meta.get("val"), "shape")]
        self.batch = {str(places[n].meta["val"].shape[0]) for n in tensors if places[n].meta["val"].dim()}
        if len(self.batch) != 1 and any(size.isdigit() for size in self.batch):
            self.problems.append(f"inputs {', '.join(names[n] for n in tensors)}: their first axes are {sorted(self.batch)}, "
                                 "where all need the batch")  # fmt: skip
        for spec in signature.input_specs:
            place = places[spec.arg.name]
            if spec.kind.name != "USER_INPUT":
                self.values[place] = self._stored(spec)
                self.parameters[place.name] = spec.target or ""
            elif place.name in tensors:
                self.values[place] = self._input(names[place.name], place.meta["val"])
            else:
                self.values[place] = place.meta.get("val")

    def _input_names(self, users: Sequence[str]) -> list[str]:
        """Names of forward's arguments where each is one tensor; else the names that torch.export made from them."""
        call = self.program.module_call_graph[0].signature
        names = getattr(call, "forward_arg_names", None) or []
        spec = getattr(call, "in_spec", None)
        flat = spec is not None and spec.num_leaves == len(names) == len(users)
        return [str(name) for name in names] if flat else list(users)

    def _input(self, name: str, value: Any) -> Any:
        try:
            shape = self._shape(value)
        except Unsupported as problem:
            self.problems.append(f"input {name!r}: {problem.reason}; nearest supported: {problem.nearest}")
            return MISSING
        self.inputs.append(Value(self.draft.name(name), shape))
        return Activation(self.inputs[-1].name, shape)

    def _stored(self, spec: Any) -> Any:
        """Return a parameter, a buffer or a tensor written into the code; tied ones are one constant."""
        for store in (self.program.state_dict, self.program.constants):
            if spec.target in store and hasattr(store[spec.target], "data_ptr"):
                tensor = store[spec.target].detach()
                key = (tensor.data_ptr() or object(), tensor.shape, tensor.stride(), tensor.dtype)
                if key not in self.tied:
                    self.tied[key] = Constant(spec.target, to_array(tensor))
                return self.tied[key]
        return MISSING

    def _shape(self, value: Any) -> Shape:
        """Return a torch shape with None for the batch; refuse where the batch is not axis 0 and only there."""
        sizes = list(value.shape)
        shown = "(" + ", ".join("N" if str(s) in self.batch else str(s) for s in sizes) + ")"
        if not sizes or str(sizes[0]) not in self.batch:
            raise Unsupported(f"axis 0 of its shape {shown} is not the batch N", "operators that leave axis 0 alone")
        if not all(isinstance(size, int) for size in sizes[1:]):
            raise Unsupported(
                f"its shape {shown} is not fixed but for the batch", "fixed sizes on all axes but the first"
            )
        return (None, *sizes[1:])

    # ---------------------------------------------------------------------------------------------------- operators
    def visit(self, node: torch.fx.Node) -> None:
        """Give a torch node its value."""
        if node.op != "call_function":
            return
        result = node.meta.get("val")
        if node.target is operator.getitem:
            self.values[node] = self._item(node)
        elif not any(hasattr(x, "shape") for x in (result if isinstance(result, (tuple, list)) else [result])):
            fixed = isinstance(result, (int, float, bool))
            self.values[node] = result if fixed or result is None else RunTimeNumber()
        else:
            try:
                self.values[node] = self._translate(node)
            except (Unsupported, BadInput) as problem:
                self.values[node] = MISSING
                self._note(node, str(problem), getattr(problem, "nearest", "shapes that agree"))

    def _item(self, node: torch.fx.Node) -> Any:
        several = self.values[node.args[0]]
        item = several[node.args[1]] if isinstance(several, (tuple, list)) else several
        if item is None and node.users:
            self._note(node.args[0], f"its result number {node.args[1]} is used", "its first result")
            item = MISSING
        return item

    def _translate(self, node: torch.fx.Node) -> Any:
        name = str(node.target)
        rule = self.rules.get(name) or self.rules.get(packet_of(node.target))
        arguments = self._arguments(node)
        leaves = list(flattened(arguments.values()))
        arrays = [x for x in leaves if isinstance(x, (Activation, Constant, _Missing))]
        fixed = all(isinstance(x, Constant) and not x.samples for x in arrays)
        if fixed and not any(isinstance(x, RunTimeNumber) for x in leaves) and hasattr(node.target, "_schema"):
            return self._fold(node)
        if rule is None:
            word = name.split(".")[1] if "." in name else name
            raise Unsupported("", NEAREST.get(word, OTHERWISE.format(operator=name)))
        if any(x is MISSING for x in arrays):
            return MISSING
        shapes = self._shapes(node)
        dtype = str(getattr(as_list(node.meta["val"])[0], "dtype", ""))
        if "float" not in dtype:
            raise Unsupported(f"it computes in {dtype}", "floats: x.float() first")
        result = rule(Call(name, self._wish(node), arguments, shapes, dtype, self.draft))
        several = isinstance(node.meta["val"], (tuple, list))
        for got, wanted in zip(result if several else [result], shapes, strict=True):
            if isinstance(got, Activation) and got.shape != wanted:
                raise Unsupported(
                    f"it was translated to shape {got.shape}, where torch has {wanted}", "a right translation"
                )
        return tuple(result) if several else result

    def _shapes(self, node: torch.fx.Node) -> list[Shape | None]:
        """Return the shape of every result; None for one that is no array, or a further one that no translation makes."""
        shapes: list[Shape | None] = []
        for i, result in enumerate(as_list(node.meta["val"])):
            try:
                shapes.append(self._shape(result) if hasattr(result, "shape") else None)
            except Unsupported:
                if i == 0:
                    raise
                shapes.append(None)
        return shapes

    def _arguments(self, node: torch.fx.Node) -> dict[str, Any]:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return {**{f"argument{i}": self._resolve(a) for i, a in enumerate(node.args)}, **node.kwargs}
        given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
        return {a.name: self._resolve(given.get(a.name, a.default_value)) for a in schema.arguments}

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, (list, tuple)):
            return [self._resolve(a) for a in argument]
        return self.values.get(argument, MISSING) if hasattr(argument, "users") else argument

    def _fold(self, node: torch.fx.Node) -> Any:
        """Compute what depends on no input, in float64."""
        import torch

        if torch.Tag.nondeterministic_seeded in node.target.tags:
            raise Unsupported("it is random", "a fixed tensor")

        def widened(x: Any) -> Any:
            if isinstance(x, torch.fx.Node):
                x = self.values[x]
                return (
                    torch.from_numpy(np.ascontiguousarray(x.array)).reshape(x.shape) if isinstance(x, Constant) else x
                )
            if isinstance(x, torch.dtype):
                return torch.float64 if x.is_floating_point else x
            return torch.device("cpu") if isinstance(x, torch.device) else x

        if is_transpose(node) and len(self.values[node.args[0]].shape) == 2:
            return self.draft.turned(self.values[node.args[0]])
        args, kwargs = torch.fx.node.map_aggregate((node.args, node.kwargs), widened)
        try:
            results = node.target(*args, **kwargs)
        except Exception as problem:
            raise Unsupported(
                f"computing it in float64 failed: {problem}", "the finished constant as a buffer"
            ) from None
        made = [Constant(f"{self._wish(node)}.constant", to_array(r)) for r in as_list(results)]
        return tuple(made) if isinstance(results, (tuple, list)) else made[0]

    # ------------------------------------------------------------------------------------------- names and messages
    def _wish(self, node: torch.fx.Node) -> str:
        """Name a node after its module; inside a module written by hand, after the operator as well."""
        path, kind = module_of(node)
        stored = [self.parameters[a.name] for a in node.all_input_nodes if a.name in self.parameters]
        owners = {name.rpartition(".")[0] for name in stored}
        leaf = kind.startswith(("torch.nn.modules.", "torch.ao.nn.")) and ".container." not in kind
        if path and (leaf or path in owners):
            return path
        word = str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)
        word = WORDS.get(word, word.strip("_"))
        return f"{path}.{word}" if path else word

    def _note(self, node: torch.fx.Node, reason: str, nearest: str) -> None:
        path, _ = module_of(node)
        place = f"{node.target} in {path!r}" if path else f"{node.target}"
        why = f": {reason}" if reason else " is not supported"
        self.problems.append(f"{place}{source_line(node)}{why}; nearest supported: {nearest}")

    # ------------------------------------------------------------------------------------------------------ outputs
    def outputs(self) -> list[str]:
        """Return the names of the values that leave the model; nested results come in their order."""
        nodes = {node.name: node for node in self.program.graph.nodes}
        outputs: list[str] = []
        for place, spec in enumerate(self.program.graph_signature.output_specs):
            kind, value = spec.kind.name, self.values.get(nodes.get(getattr(spec.arg, "name", "")))
            if kind == "BUFFER_MUTATION":
                self.problems.append(f"buffer {spec.target!r} is written by forward; nearest supported: return the new value, "
                                     "and give the old one as an input")  # fmt: skip
            elif kind == "USER_OUTPUT" and isinstance(value, Activation):
                outputs.append(value.name)
            elif kind == "USER_OUTPUT" and not (value is MISSING or getattr(spec.arg, "value", 0) is None):
                self.problems.append(f"output number {place} does not depend on the inputs; leave it out")
        if not outputs and not self.problems:
            self.problems.append("it returns no tensor; forward must return one")
        return outputs

    def graph(self, outputs: Sequence[str]) -> Graph:
        """Put the graph together from what the outputs need."""
        needed, nodes = set(outputs), []
        for node in reversed(self.draft.nodes.values()):
            if node.output in needed:
                needed |= set(node.inputs)
                nodes.append(node)
        constants = {name: array for name, array in self.draft.constants.items() if name in needed}
        broken = [name for name, array in constants.items() if not np.isfinite(array).all()]
        if broken:
            raise ImportProblems(f"infinities or NaN in {', '.join(broken)}; load weights that are finite")
        return Graph(tuple(self.inputs), tuple(outputs), tuple(reversed(nodes)), constants)


def module_of(node: torch.fx.Node) -> tuple[str, str]:
    """Return path and class of the innermost module that called the operator; further calls have the same path."""
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    path, kind = list(stack.values())[-1]
    if path.startswith("_empty_nn_module_stack"):
        return "", ""
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return re.sub(r"@\d+", "", path), kind


def source_line(node: torch.fx.Node) -> str:
    """Return where in the model's own code, not torch's, the operator was called: text to append, or none."""
    frames = list(FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if "/torch/nn/" not in frame["file"].replace("\\", "/")]
    if not own:
        return ""
    frame = own[-1]
    code = f" `{frame['code'].strip()}`" if frame["code"] else ""
    return f" ({Path(frame['file']).name}, line {frame['line']}{code})"


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor into numpy: floats as float64, integers and truth values as they are."""
    import torch

    tensor = tensor.detach().cpu()
    return tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True).numpy()


def is_transpose(node: torch.fx.Node) -> bool:
    """Tell whether an operator on a matrix exchanges its two axes."""
    word, *axes = packet_of(node.target).removeprefix("aten."), *node.args[1:]
    swapped = word == "transpose" and {axis % 2 for axis in axes} == {0, 1}
    return word == "t" or swapped or (word == "permute" and [*axes[0]] == [1, 0])


def as_list(value: Any) -> list[Any]:
    """Return several results, or one, as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def flattened(values: Any) -> Any:
    """Yield all that nested lists hold."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flattened(value)
        else:
            yield value
