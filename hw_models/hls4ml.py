"""hls4ml: every layer is hardware of its own, every number an ap_fixed type, every addition a cast."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import fixqnn as fq

SOURCE = (
    "hls4ml (fastml, Apache-2.0), Vitis backend, C emulation of io_parallel and io_stream with the latency strategy: "
    "nnet_utils/nnet_dense_latency.h, nnet_conv2d_latency.h, nnet_pooling.h, nnet_activation.h. Convolution, dense, relu, "
    "pooling, sigmoid and tanh agree layer by layer with hls4ml 1.3.0 on two networks, one wide and one narrow "
    "(tests/vectors/hls4ml_cnn_wide.npz, hls4ml_cnn_narrow.npz). Elementwise layers, leaky_relu, transposed convolution and "
    "functions as tables of one entry per code are read from the sources and have no foreign answer. Softmax is not "
    "modelled; neither is the resource strategy's order of additions."
)
Types = Mapping[str, Mapping[str, str | int]]
Datapath = fq.SumOfProducts | fq.Elementwise | fq.Lookup | fq.Shift | fq.Exact

SUMS = ("linear", "conv", "conv_transpose", "matmul")
AVERAGES = ("average_pool", "adaptive_average_pool", "mean")
RANGES = {"sigmoid": 8, "tanh": 4}  # a table covers [-8, 8) or [-4, 4): nnet_activation.h
KEYS = ("accum", "result", "weight", "bias", "table", "size")


def hls4ml(
    accum: str | None = "ap_fixed<16,6>",
    result: str = "ap_fixed<16,6>",
    table: str = "ap_fixed<18,8>",
    size: int = 1024,
    types: Types | None = None,
    graph: fq.Graph | None = None,
) -> fq.Accelerator:
    """Make the hardware that hls4ml would generate.

    Parameters
    ----------
    accum : str or None
        Type of every accumulator: each product is cast to it, then each sum. None: wide enough that nothing is lost,
        as hls4ml's "auto".
    result : str
        Type of every result. The format of a value stands in the graph; of this type only the rounding, the overflow
        and the saturated bits count.
    table : str
        Type of the entries of sigmoid and tanh.
    size : int
        Number of these entries.
    types : mapping of str to mapping, optional
        By node name: ``{"conv1": {"accum": "ap_fixed<20,8>", "result": "ap_fixed<8,3,AP_RND,AP_SAT>"}}``, with the keys
        ``accum``, ``result``, ``weight``, ``bias``, ``table`` and ``size``; what is missing is as above. `apply_types`
        gives the graph its formats from the same mapping.
    graph : Graph, optional
        The graph that `types` speaks of; required with it, as each node gets hardware of its own.

    Returns
    -------
    Accelerator
        Takes power-of-two scales only. Inputs are cast like every other value; ``run`` encodes reals half to even, so
        give it codes: ``t = fq.parse_type(name)``, then ``t.format.encode(x, t.rounding, t.overflow, t.kept)``.

    Raises
    ------
    FormatError
        For a type name that cannot be read.
    BadInput
        For a name in `types` that is neither a node nor an input of the graph, or a key that is not known.

    Examples
    --------
    An accumulator of three fraction bits floors every product: -1/16 becomes -1/8, four times.

    >>> import fixqnn as fq
    >>> x, w = fq.Tensor([[-1] * 4], fq.fixed(8, 3)), fq.Tensor([[1] * 4], fq.fixed(8, 1))
    >>> graph = fq.Graph((fq.Value("x", (None, 4), x.format),), ("fc",),
    ...     (fq.Node("fc", fq.OPS["linear"], ("x", "w")),), {"w": w}, {"fc": fq.fixed(8, 4)})
    >>> [fq.run(fq.lower(graph, hls4ml(a)), x).output.real().item() for a in ("ap_fixed<8,5>", None)]
    [-0.5, -0.25]
    """
    defaults = {"accum": accum, "result": result, "table": table, "size": size}
    datapaths: dict[str, Datapath] = {}
    for operation in (*SUMS, *AVERAGES, "add", "subtract", "multiply", *RANGES, "leaky_relu", "lookup", "requantize"):
        datapaths[operation] = _datapath(operation, defaults)
    if types:
        if graph is None:
            raise fq.BadInput("hls4ml: types speaks of layers by name; give graph=, the graph that has them")
        check_types(graph, types)
        for node in graph.nodes:
            layer = {**defaults, **types.get(node.name, {})}
            kind = node.attributes.get("function", node.op.name)
            if kind in datapaths or node.op.name in datapaths:
                datapaths[node.name] = _datapath(kind if kind in datapaths else node.op.name, layer)
            else:  # codes are compared or moved, and cast after that; inputs of a concat before
                steps = [f"{node.name}.requantize", *(f"{node.name}.input{i}" for i in range(len(node.inputs)))]
                datapaths.update(dict.fromkeys(steps, _datapath("requantize", layer)))
    return fq.Accelerator("hls4ml", datapaths, source=SOURCE)


def _datapath(operation: str, layer: Mapping[str, str | int | None]) -> Datapath:
    """The hardware of one layer."""
    cast = fq.parse_type(str(layer["result"]))
    result = fq.Shift(cast.rounding or "floor", cast.overflow or "wrap", cast.kept)
    if operation in SUMS or operation in AVERAGES:
        accum = fq.Register(62, "forbid") if layer["accum"] is None else _register(str(layer["accum"]))
        sums = (fq.Stage(accum),)
        if operation in AVERAGES:
            return fq.SumOfProducts(fq.Divide("toward_zero", result), sum=sums)
        return fq.SumOfProducts(result, None if layer["accum"] is None else accum, sums)
    if operation in ("add", "subtract"):
        return fq.Elementwise(result, common="finest")
    if operation == "multiply":
        return fq.Elementwise(result)
    if operation in RANGES:
        reach = RANGES[operation]
        return fq.Lookup(
            size=int(layer["size"]), low=-reach, high=reach, rounding="toward_zero", overflow="saturate",
            entry=_register(str(layer["table"])), scaler=result, output_rounding=_register(str(layer["table"])).rounding,
        )  # fmt: skip
    if operation == "leaky_relu":
        return fq.Exact(result.rounding, result.overflow)
    return fq.Lookup(output_rounding=result.rounding) if operation == "lookup" else result


def _register(name: str) -> fq.Register:
    """The register that an ap_fixed type is."""
    t = fq.parse_type(name)
    if t.format.frac is None:
        raise fq.FormatError(f"{name!r} has no binary point; hls4ml knows ap_fixed and ap_int types")
    return fq.Register(
        t.format.bits, t.overflow or "wrap", t.format.signed, t.rounding or "floor", frac=t.format.frac, kept=t.kept
    )


def apply_types(graph: fq.Graph, types: Types, default: str = "ap_fixed<16,6>", printed: bool = True) -> fq.Graph:
    """Give inputs, results, weights and biases the formats that hls4ml's types say, and cast weights as it does.

    Parameters
    ----------
    graph : Graph
        With real weights; what already has codes is left alone.
    types : mapping of str to mapping
        As for `hls4ml`; an input has only a ``result``.
    default : str
        Type of whatever `types` does not name.
    printed : bool
        Whether weights pass through decimal text with as many decimals as the type has fraction bits, as in the
        header files that hls4ml writes.

    Returns
    -------
    Graph
        The same network with formats.

    Examples
    --------
    >>> import fixqnn as fq
    >>> node = fq.Node("fc", fq.OPS["linear"], ("x", "w"))
    >>> graph = fq.Graph((fq.Value("x", (None, 2)),), ("fc",), (node,), {"w": [[0.3, -0.3]]})
    >>> typed = apply_types(graph, {"fc": {"weight": "ap_fixed<6,2>", "result": "ap_fixed<9,4>"}})
    >>> typed.constants["w"], typed.formats["fc"], typed.formats["x"]
    (Tensor([[4, -5]], fixed(6, 4)), fixed(9, 5), fixed(16, 10))
    """
    check_types(graph, types)
    formats, constants = {}, {}

    def format_of(name: str, key: str) -> fq.Format:
        return fq.parse_type(str(types.get(name, {}).get(key, default))).format

    for value in graph.inputs:
        formats[value.name] = format_of(value.name, "result")
    for node in graph.nodes:
        formats[node.output] = format_of(node.name, "result")
        keys = ("", "weight", "bias") if node.op.name in SUMS else ("result",) * len(node.inputs)
        for name, key in zip(node.inputs, keys, strict=False):
            real = graph.constants.get(name)
            if real is not None and not isinstance(real, fq.Tensor):
                constants[name] = _weights(real, str(types.get(node.name, {}).get(key, default)), printed, name)
    known = set(graph.formats)
    return graph.with_constants(constants).with_formats({k: v for k, v in formats.items() if k not in known})


def _weights(real: np.ndarray, name: str, printed: bool, called: str) -> fq.Tensor:
    t = fq.parse_type(name)
    if printed:
        decimals = max(t.format.frac or 0, 0)
        real = np.array([float(f"{value:.{decimals}f}") for value in real.ravel()]).reshape(real.shape)
    return fq.Tensor(t.format.encode(real, t.rounding or "floor", t.overflow or "wrap", t.kept, name=called), t.format)


def check_types(graph: fq.Graph, types: Types) -> None:
    """Refuse names that the graph does not have, and keys that mean nothing."""
    names = {*(node.name for node in graph.nodes), *(value.name for value in graph.inputs)}
    unknown = sorted(set(types) - names)
    if unknown:
        there = ", ".join(sorted(names))
        raise fq.BadInput(f"types names {', '.join(unknown)}, neither nodes nor inputs of the graph, which has {there}")
    for name, layer in types.items():
        wrong = sorted(set(layer) - set(KEYS))
        if wrong:
            raise fq.BadInput(f"types[{name!r}] has the keys {', '.join(wrong)}; there are {', '.join(KEYS)}")
