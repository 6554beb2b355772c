"""From torch operators to functions that answer a call with nodes; for others, the nearest form that has one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from fixqnn.importers import torch_elementwise as elementwise
from fixqnn.importers import torch_layers as layers
from fixqnn.importers import torch_moves as moves
from fixqnn.importers.torch_call import Rule


def each(rule: Rule, *operators: str) -> dict[str, Rule]:
    """Give several operators one rule."""
    return {f"aten.{operator}": rule for operator in operators}


FUNCTIONS = (
    "sigmoid", "tanh", "silu", "mish", "selu", "hardswish", "hardsigmoid", "exp", "sqrt", "rsqrt", "reciprocal",
    "abs", "square", "log", "erf", "sin", "cos", "sign",
)  # fmt: skip

TABLE: Mapping[str, Rule] = MappingProxyType({
    **each(layers.linear, "linear"),
    **each(layers.addmm, "addmm"),
    **each(layers.matmul, "mm", "bmm", "matmul"),
    **each(layers.conv, "conv1d", "conv2d", "conv3d", "convolution"),
    **each(layers.conv_transpose, "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    **each(layers.batch_norm, "batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training",
           "_native_batch_norm_legit", "_native_batch_norm_legit_functional", "cudnn_batch_norm", "_batch_norm_no_update"),
    **each(partial(layers.max_pool, axes=1), "max_pool1d", "max_pool1d_with_indices"),
    **each(partial(layers.max_pool, axes=2), "max_pool2d", "max_pool2d_with_indices"),
    **each(partial(layers.max_pool, axes=3), "max_pool3d", "max_pool3d_with_indices"),
    **{f"aten.avg_pool{axes}d": partial(layers.average_pool, axes=axes) for axes in (1, 2, 3)},
    **each(layers.adaptive_average_pool, "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
           "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    **each(layers.adaptive_max_pool, "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **each(layers.mean, "mean"),
    **each(layers.total, "sum"),
    **each(elementwise.add, "add"),
    **each(partial(elementwise.add, op="subtract"), "sub"),
    **each(elementwise.reverse_subtract, "rsub"),
    **each(elementwise.multiply, "mul"),
    **each(elementwise.divide, "div", "true_divide"),
    **each(elementwise.negate, "neg"),
    **each(elementwise.power, "pow"),
    **{f"aten.{name}": partial(elementwise.lookup, function=name) for name in FUNCTIONS},
    **each(partial(elementwise.lookup, function="gelu", approximate="approximate"), "gelu"),
    **each(partial(elementwise.lookup, function="leaky_relu", negative_slope="negative_slope"), "leaky_relu"),
    **each(partial(elementwise.lookup, function="softplus", beta="beta", threshold="threshold"), "softplus"),
    **each(partial(elementwise.lookup, function="celu", alpha="alpha"), "celu"),
    **each(partial(elementwise.lookup, function="logsigmoid"), "log_sigmoid"),
    **each(elementwise.elu, "elu"),
    **each(elementwise.prelu, "prelu", "_prelu_kernel"),
    **each(partial(elementwise.clamp, low=0.0), "relu"),
    **each(partial(elementwise.clamp, low=0.0, high=6.0), "relu6"),
    **each(partial(elementwise.clamp, low="min_val", high="max_val"), "hardtanh"),
    **each(partial(elementwise.clamp, low="min", high="max"), "clamp", "clip"),
    **each(partial(elementwise.clamp, low="min"), "clamp_min"),
    **each(partial(elementwise.clamp, high="max"), "clamp_max"),
    **each(elementwise.threshold, "threshold"),
    **each(moves.same, "clone", "contiguous", "alias", "detach", "lift_fresh", "lift_fresh_copy", "positive"),
    **each(moves.cast, "_to_copy", "to", "type_as"),
    **each(moves.dropout, "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
    **each(moves.reshape, "view", "_unsafe_view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "squeeze",
           "unsqueeze", "view_copy", "squeeze_copy", "unsqueeze_copy"),
    **each(partial(moves.permute, axes=moves.swapped), "transpose", "transpose_copy"),
    **each(partial(moves.permute, axes=partial(moves.swapped, first="axis0", second="axis1")), "swapaxes"),
    **each(partial(moves.permute, axes=moves.swapped), "swapdims"),
    **each(partial(moves.permute, axes=moves.listed_axes), "permute", "permute_copy"),
    **each(partial(moves.permute, axes=moves.reversed_axes), "t", "numpy_T"),
    **each(moves.cut, "slice", "slice_copy"),
    **each(moves.put, "slice_scatter"),
    **each(moves.copy, "copy"),
    **each(moves.select, "select", "select_copy"),
    **each(moves.unbind, "unbind"),
    **each(moves.split, "split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split"),
    **each(moves.concat, "cat", "concat"),
    **each(moves.stack, "stack"),
    **each(moves.pad, "pad", "constant_pad_nd"),
    **each(moves.expand, "expand", "expand_as"),
    **each(moves.filled, "full", "full_like", "new_full"),
    **each(partial(moves.filled, value=0.0), "zeros", "zeros_like", "new_zeros"),
    **each(partial(moves.filled, value=1.0), "ones", "ones_like", "new_ones"),
    **each(moves.interpolate, "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
           "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    **each(moves.pixel_shuffle, "pixel_shuffle"),
    **each(moves.pixel_unshuffle, "pixel_unshuffle"),
    **each(moves.channel_shuffle, "channel_shuffle", "native_channel_shuffle"),
    **each(moves.glu, "glu"),
})  # fmt: skip

NEAREST: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), "leave it out and take the scores before it"),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "group_norm", "native_group_norm", "instance_norm", "rms_norm"),
                    "batch norm, whose statistics are fixed after training"),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "its steps written out with linear, sigmoid, tanh, mul and add"),
    **dict.fromkeys(("scaled_dot_product_attention", "_native_multi_head_attention"), "none yet: it needs softmax"),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_linear1d", "upsample_bicubic2d", "upsample_trilinear3d"),
                    'interpolate(mode="nearest") by a whole factor, or conv_transpose'),
    **dict.fromkeys(("where", "gt", "lt", "ge", "le"), "clamp, relu or leaky_relu"),
    **dict.fromkeys(("maximum", "minimum"), "clamp, for a bound that is a number"),
    **dict.fromkeys(("amax", "max", "amin", "min"), "max_pool with a kernel as large as the axes"),
    **dict.fromkeys(("argmax", "topk", "sort", "argmin"), "the scores themselves; choose among them outside the graph"),
    **dict.fromkeys(("var", "std", "linalg_vector_norm", "norm"), "square, mean and sqrt"),
    **dict.fromkeys(("embedding", "index_select", "gather", "index"), "the looked-up vectors as an input, or slices"),
    **dict.fromkeys(("bernoulli", "rand", "rand_like", "randn", "randn_like"), "module.eval() before export"),
    **dict.fromkeys(("repeat", "tile"), "concat of the same array; add and mul broadcast by themselves"),
    "einsum": "matmul or linear",
    "wrap_with_set_grad_enabled": "torch.export.export called inside torch.no_grad()",
    "fold": "conv_transpose",
    "im2col": "conv",
    "movedim": "permute",
})  # fmt: skip
