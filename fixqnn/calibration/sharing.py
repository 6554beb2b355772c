"""Which values have one format, so that codes travel between them as they are, and which settings are theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fixqnn.calibration.policy import FOR_ACTIVATIONS, Policy
from fixqnn.format import Format
from fixqnn.graph import Graph, Node

# What every output code of these is, is an input code; and saturating before or after them is the same.
MOVES = ("reshape", "transpose", "slice", "pad", "concat", "pixel_shuffle", "resize", "max_pool")
# An average lies among what it averages, so the input's format holds it.
POOLS = ("average_pool", "adaptive_average_pool")
# Operations with an output register whose saturation can do the work of a clamp.
ARITHMETIC = ("linear", "conv", "conv_transpose", "matmul", "add", "subtract", "multiply", "mean", "requantize", *POOLS)


@dataclass
class Group:
    """Values that get one format.

    Attributes
    ----------
    members : list of str
        The values; the format is chosen for what was seen of them all.
    fused : list of str
        Values that take the format although more was seen of them: saturation stands for a clamp.
    settings : Policy
        What the user wants of them.
    format : Format or None
        The format, where it need not be chosen: the graph came with it.
    why : dict of str to str
        What a reader of the result should know, by value name.
    """

    members: list[str]
    settings: Policy
    fused: list[str] = field(default_factory=list)
    format: Format | None = None
    why: dict[str, str] = field(default_factory=dict)


def groups(graph: Graph, policy: Policy) -> list[Group]:
    """Divide the values that need a format (inputs, node outputs, constants of a concat) into groups of one format."""
    return _Sharing(graph, policy).groups()


class _Sharing:
    """Settings of every value, then formats that were given, then groups, then fused clamps."""

    def __init__(self, graph: Graph, policy: Policy) -> None:
        self.graph, self.policy = graph, policy
        self.makers = {node.output: node for node in graph.nodes}
        self.readers: dict[str, list[Node]] = {name: [] for name in graph.values}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers[name].append(node)
        self.explicit: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, Policy] = {}
        self.share: set[str] = set()  # outputs of nodes that keep their input's format where they can
        self.fuse: set[str] = set()  # outputs of clamps that saturation may do the work of
        self._settle()
        self.formats: dict[str, Format] = dict(graph.formats)
        self.came_from: dict[str, str] = {}
        self.of: dict[str, Group] = {}

    def groups(self) -> list[Group]:
        self._pass_on_given()
        for name in self.settings:
            if name not in self.formats:
                self.of[name] = Group([name], self.settings[name])
            elif name not in self.graph.formats:
                why = f"has the format that {self.came_from[name]!r} came with"
                self.of[name] = Group([name], self.settings[name], format=self.formats[name], why={name: why})
        for node in self.graph.nodes:
            for name in self._joinable(node):
                self._join(name, node.output)
        for node in self.graph.nodes:
            if node.output in self.fuse:
                self._fuse(node)
        return list({id(group): group for group in self.of.values()}.values())

    # ------------------------------------------------------------------ settings
    def _settle(self) -> None:
        """Find everyone's settings; what only follows its input has the input's, unless the user said otherwise."""
        outputs = self._outputs()
        for v in self.graph.inputs:
            self._set(v.name, self.policy, self.policy.explicit((v.name,), ("input",), self.policy.inputs))
        for node in self.graph.nodes:
            kinds = (node.op.name, node.attributes.get("function"))
            bits = self.policy.outputs if node.output in outputs else None
            explicit = self.policy.explicit((node.name, node.output), kinds, bits)
            base = self.policy
            if node.op.name in (*MOVES, *POOLS, "clamp"):
                before = [self.settings[name] for name in node.inputs if name in self.settings]
                if before and all(settings == before[0] for settings in before):
                    base = before[0]
            self._set(node.output, base, explicit)
            if node.op.name in (*MOVES, *POOLS) and explicit.get("share", self.policy.share):
                self.share.add(node.output)
            if node.op.name == "clamp" and explicit.get("fuse_relu", self.policy.fuse_relu):
                self.fuse.add(node.output)
            if node.op.name == "concat":
                for name in node.inputs:
                    if name in self.graph.constants and name not in self.settings:
                        self._set(name, self.settings[node.output], {})

    def _set(self, name: str, base: Policy, explicit: dict[str, Any]) -> None:
        self.explicit[name] = {key: value for key, value in explicit.items() if key in FOR_ACTIVATIONS}
        self.settings[name] = base.having(self.explicit[name])

    def _outputs(self) -> set[str]:
        """Outputs of the graph, and what they only follow: bits that an output is to have must be there before it."""
        found: set[str] = set()
        waiting = list(self.graph.outputs)
        while waiting:
            name = waiting.pop()
            found.add(name)
            maker = self.makers.get(name)
            if maker is not None and maker.op.name in (*MOVES, *POOLS, "clamp"):
                waiting += [n for n in maker.inputs if n not in found and len(self.readers[n]) == 1]
        return found

    # ------------------------------------------------------------------ given formats
    def _pass_on_given(self) -> None:
        """Let formats that the graph came with travel through moves and pools, forward before backward."""
        changed = True
        while changed:
            changed = False
            for node in self.graph.nodes:
                there = [self.formats.get(name) for name in node.inputs]
                if node.output in self.share and there[0] is not None and all(f == there[0] for f in there):
                    changed |= self._give(node.output, node.inputs[0])
            for node in reversed(self.graph.nodes):
                if node.output in self.share and node.output in self.formats:
                    for name in node.inputs:
                        changed |= self._give(name, node.output)

    def _give(self, name: str, source: str) -> bool:
        form = self.formats[source]
        if name in self.formats or name not in self.settings or self.explicit[name] or form.per_channel:
            return False
        self.formats[name] = form
        self.came_from[name] = self.came_from.get(source, source)
        return True

    # ------------------------------------------------------------------ groups
    def _joinable(self, node: Node) -> list[str]:
        """Inputs that can have the format of the node's output."""
        if node.output not in self.share or node.output in self.formats:
            return []
        free = [name for name in node.inputs if name in self.settings and name not in self.formats]
        return [name for name in free if self.settings[name] == self.settings[node.output]]

    def _join(self, one: str, other: str) -> None:
        first, second = self.of[one], self.of[other]
        if first is not second:
            first.members += second.members
            first.why.update(dict.fromkeys(second.members, f"shares the format of {first.members[0]!r}"))
            for name in second.members:
                self.of[name] = first

    def _fuse(self, clamp: Node) -> None:
        """Let what only the clamp reads take the format of the clamp's output."""
        x, y = clamp.inputs[0], clamp.output
        group = self.of.get(x)
        if group is None or group.format is not None:
            return
        explicit = any(self.explicit[name] for name in group.members)
        if explicit and (self.settings[x] != self.settings[y] or y in self.formats):
            return
        if not all(self._only_for(name, clamp, group) for name in group.members):
            return
        group.why.update(dict.fromkeys(group.members, f"has the format of {y!r}: saturation does the clamping"))
        target = self.of.get(y)
        if target is None:  # the clamp's output came with its format
            group.format, group.fused, group.members = self.formats[y], group.members, []
            return
        target.fused += group.members
        target.why.update(group.why)
        for name in group.members:
            self.of[name] = target

    def _only_for(self, name: str, clamp: Node, group: Group) -> bool:
        """Whether nothing would notice if this value were clamped already."""
        maker = self.makers.get(name)
        if maker is None or name in self.graph.outputs:
            return False
        inside = [n for n in maker.inputs if self.of.get(n) is group]
        if maker.op.name in MOVES:  # of an input in another format, the conversion saturates
            saturates = maker.attributes.get("value", 0) == 0  # what is padded with has to be a code
        else:
            saturates = (
                maker.op.name in ARITHMETIC and not inside
            )  # an average in its input's format would come too late
        if not saturates:
            return False
        return all(node is clamp or self.of.get(node.output) is group for node in self.readers[name])
