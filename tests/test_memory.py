"""Memory: its order is free and is kept, and values leave it after their last reader."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fixqnn as fq
from fixqnn.datapath import Elementwise, Lookup, Register
from fixqnn.events import Run
from fixqnn.format import affine, fixed
from fixqnn.kernels.passes import alike
from fixqnn.ops import OPS
from fixqnn.scaler import Exact, Shift
from tests.stepping import make_step, run_exact
from tests.strategies import codes_of

NARROW, WIDE = fixed(8, 4), affine(18, 0.01, 3)
IMAGE, LINE, CUBE = (None, 8, 6, 4), (None, 4, 9), (None, 3, 4, 5, 4)


def window(kernel, stride, padding, dilation):
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def case(name, op, formats, out, shapes, datapath=None, **attributes):
    return pytest.param(op, formats, out, shapes, datapath, attributes, id=name)


CASES = [
    case("clamp", "clamp", [NARROW], NARROW, [IMAGE], low=0.0, high=6.0),
    case("clamp that nothing passes", "clamp", [NARROW], NARROW, [IMAGE]),
    case("clamp of wide codes", "clamp", [fixed(70, 4)], fixed(70, 4), [IMAGE], low=0.0),
    case("table", "lookup", [NARROW], NARROW, [IMAGE], Lookup(), function="sigmoid"),
    case("table with clipped entries", "lookup", [NARROW], NARROW, [IMAGE], Lookup(), function="exp"),
    case("table over a range", "lookup", [WIDE], NARROW, [LINE], Lookup(size=64, low=-2.0, high=2.0), function="exp"),
    case(
        "table and scaler", "lookup", [NARROW], fixed(6, 3), [CUBE],
        Lookup(entry=Register(9, frac=5), scaler=Shift("half_up")), function="tanh",
    ),
    case("signs", "lookup", [NARROW], fixed(5, 3), [IMAGE], Exact(), function="leaky_relu", negative_slope=0.1),
    case(
        "signs of wide codes", "lookup", [WIDE], fixed(6, 0), [IMAGE], Exact(), function="leaky_relu", negative_slope=0.1
    ),
    case("pool of lines", "max_pool", [NARROW], NARROW, [LINE], **window((3,), (2,), ((1, 1),), (1,))),
    case("pool of images", "max_pool", [NARROW], NARROW, [IMAGE], **window((3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2))),
    case(
        "pool of cubes", "max_pool", [NARROW], NARROW, [CUBE],
        **window((2, 3, 2), (1, 2, 2), ((1, 1), (1, 1), (0, 1)), (2, 1, 1)),
    ),
    case(
        "pool of wide codes", "max_pool", [fixed(70, 4)], fixed(70, 4), [IMAGE],
        **window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ),
    case("pad", "pad", [NARROW], NARROW, [IMAGE], padding=((0, 0), (0, 0), (1, 2), (0, 3)), value=-1.5),
    case("pad of channels", "pad", [NARROW], NARROW, [IMAGE], padding=((0, 0), (1, 2), (0, 0), (1, 0))),
    case("concat of channels", "concat", [NARROW] * 2, NARROW, [IMAGE] * 2, axis=1),
    case("concat of rows", "concat", [NARROW] * 2, NARROW, [IMAGE] * 2, axis=2),
    case("slice of channels", "slice", [NARROW], NARROW, [IMAGE], axis=1, start=1, stop=7, step=2),
    case("slice of rows", "slice", [NARROW], NARROW, [IMAGE], axis=2, start=1, stop=6, step=2),
    case("transpose of the picture", "transpose", [NARROW], NARROW, [IMAGE], axes=(0, 1, 3, 2)),
    case("reshape of the picture", "reshape", [NARROW], NARROW, [IMAGE], shape=(None, 8, 24)),
    case("pixel_shuffle", "pixel_shuffle", [NARROW], NARROW, [IMAGE], factor=2),
    case("resize of images", "resize", [NARROW], NARROW, [IMAGE], factor=(2, 3)),
    case("resize of cubes", "resize", [NARROW], NARROW, [CUBE], factor=(2, 1, 3)),
    case("requantize", "requantize", [NARROW], fixed(5, 2), [IMAGE], Exact()),
    case("add", "add", [NARROW] * 2, NARROW, [IMAGE] * 2, Elementwise(Exact(), common="finest")),
]  # fmt: skip


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def is_channels_last(x):
    return np.moveaxis(x, 1, -1).flags.c_contiguous


def strewn(x):
    """The same numbers with gaps between them, running backwards."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x[..., ::-1]
    return wide[..., ::2][..., ::-1]


@pytest.mark.parametrize(("op", "formats", "out", "shapes", "datapath", "attributes"), CASES)
def test_codes_and_events_do_not_depend_on_memory_order_and_channels_stay_last(
    op, formats, out, shapes, datapath, attributes
):
    step = make_step(OPS[op], formats, out, shapes, datapath, **attributes)
    codes = [codes_of(f, (3, *s[1:]), 5 + i) for i, (f, s) in enumerate(zip(formats, shapes, strict=True))]
    want, want_events = run_exact(step, *codes, first_sample=2)
    for order in (lambda x: x, channels_last, np.asfortranarray, strewn):
        run = Run(0, 3, 2)
        operands = [order(c.astype(f.narrow_dtype)) for c, f in zip(codes, formats, strict=True)]
        for operand in operands:
            operand.flags.writeable = False
        got = step.op.fast(step, run, *operands)
        assert np.array_equal(got, want)
        assert got.dtype == out.narrow_dtype
        assert run.events == want_events
        if order is channels_last:
            assert got.strides[1] == got.itemsize
            assert is_channels_last(got) or op == "transpose"  # a picture on its side is a view


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_tables_pools_and_clamps_take_codes_of_any_type(dtype):
    codes = codes_of(NARROW, (2, 8, 6, 4), 1)
    for op, datapath, attributes in (
        ("lookup", Lookup(), {"function": "exp"}),
        ("max_pool", None, window((2, 2), (2, 2), ((1, 0), (0, 0)), (1, 1))),
        ("clamp", None, {"low": -1.0, "high": 3.0}),
        ("resize", None, {"factor": (2, 2)}),
    ):
        step = make_step(OPS[op], [NARROW], NARROW, [IMAGE], datapath, **attributes)
        want = run_exact(step, codes)[0]
        for x in (codes.astype(dtype), channels_last(codes.astype(dtype))):
            assert np.array_equal(step.op.fast(step, Run(), x), want)


def test_threads_share_passes_and_change_nothing(monkeypatch):
    monkeypatch.setattr("fixqnn.ops.max_pool.PIECE", 100)
    monkeypatch.setattr("fixqnn.kernels.tables.PIECE", 100)
    codes = codes_of(NARROW, (7, 8, 6, 4), 1)
    for op, datapath, attributes in (
        ("lookup", Lookup(), {"function": "exp"}),
        ("max_pool", None, window((2, 2), (2, 2), ((1, 0), (0, 0)), (1, 1))),
    ):
        step = make_step(OPS[op], [NARROW], NARROW, [IMAGE], datapath, **attributes)
        want, events = run_exact(step, codes)
        for x in (codes, channels_last(codes)):
            run = Run(0, 3, threads=4)
            assert np.array_equal(step.op.fast(step, run, x), want)
            assert run.events == events


def test_new_arrays_lie_in_memory_as_the_old_ones_do():
    x = np.arange(2 * 3 * 4, dtype=np.int32).reshape(2, 3, 4)
    for a in (x, channels_last(x), x.T, x[:, ::2], x[::-1], np.broadcast_to(x[:, :1], x.shape), x[:, :1], x[:0]):
        memory, y, target = alike(a, np.int8)
        target[:] = memory
        assert np.array_equal(y, a)


# ------------------------------------------------------------------------------------------------------- who stays
def chain(length):
    """A program of large values, each read by the next one only."""
    form = fixed(8, 4)
    nodes = [fq.Node("up", OPS["resize"], ("x",), "v0", {"factor": (8, 8)})]
    nodes += [
        fq.Node(f"c{i}", OPS["clamp"], (f"v{i}",), f"v{i + 1}", {"low": -1.0, "high": 1.0}) for i in range(length)
    ]
    nodes.append(
        fq.Node("pool", OPS["max_pool"], (f"v{length}",), "y", window((8, 8), (8, 8), ((0, 0), (0, 0)), (1, 1)))
    )
    names = ["x", *(f"v{i}" for i in range(length + 1)), "y"]
    graph = fq.Graph((fq.Value("x", (None, 8, 16, 16)),), ("y",), tuple(nodes))
    return fq.lower(graph.with_formats(dict.fromkeys(names, form)), fq.Accelerator("moves", {}))


def test_values_leave_memory_after_their_last_reader():
    program, x = chain(12), np.zeros((32, 8, 16, 16))
    fq.run(program, x)
    tracemalloc.start()
    fq.run(program, x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    large = 32 * 8 * 128 * 128 * fixed(8, 4).narrow_dtype.itemsize
    assert peak < 2.5 * large  # of thirteen; one is read while the next is written


def test_a_batch_is_cut_so_that_live_codes_stay_within_bounds(monkeypatch):
    program = chain(3)
    size = fixed(8, 4).narrow_dtype.itemsize
    assert program.live_bytes == 2 * 8 * 128 * 128 * size
    monkeypatch.setattr("fixqnn.simulate.CHUNK_BYTES", 3 * program.live_bytes + 5)
    seen = []
    fq.run(program, np.zeros((8, 8, 16, 16)), progress=lambda done, samples: seen.append(done))
    assert seen == [3, 6, 8]


def test_last_reads_name_every_value_but_constants_once():
    program = chain(2)
    assert program.last_reads == (("x",), ("v0",), ("v1",), ("v2", "y"))
