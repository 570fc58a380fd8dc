"""Writes the small networks of one operator each that tests/engine/brought.rs runs, and for every file here
what ONNX Runtime computes of it, into expected.json.

    python -m venv venv && venv/bin/pip install onnx onnxruntime numpy
    venv/bin/python tests/onnx/make.py

Element i of an input is (i * 7919 % 1000 - 500) / 250; of an integer input that times 20, cut off.
"""

import glob
import json
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
F = TensorProto.FLOAT
rng = np.random.default_rng(7)


def weights(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def write(name, nodes, x, y, opset=17, domains=(), **constants):
    """A network from input `x` to output `y`, each with its shape."""
    tensor = lambda v, k: v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), k)
    inits = [tensor(v, k) for k, v in constants.items()]
    info = [helper.make_tensor_value_info(n, F, s) for n, s in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, name, info[:1], info[1:], inits)
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, f"{HERE}/{name}.onnx")


def one(name, op, x, y, opset=17, more=(), domain="", outputs=("y",), **rest):
    constants = {k: v for k, v in rest.items() if isinstance(v, np.ndarray)}
    attributes = {k: v for k, v in rest.items() if not isinstance(v, np.ndarray)}
    node = helper.make_node(op, ["x", *more, *constants], list(outputs), domain=domain, **attributes)
    write(f"op_{name}", [node], x, y, opset, [domain] if domain else [], **constants)


node = helper.make_node


def operators():
    image = ["N", 4, 6, 8]
    one("celu", "Celu", image, image, alpha=0.7)
    one("space_to_depth", "SpaceToDepth", image, ["N", 16, 3, 4], blocksize=2)
    one("lp_pool", "LpPool", image, ["N", 4, 4, 5], opset=18, p=3, kernel_shape=[3, 3],
        strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    one("global_lp_pool", "GlobalLpPool", image, ["N", 4, 1, 1], p=2)
    one("group_norm_18", "GroupNormalization", image, image, opset=18, num_groups=2,
        s=weights(2), b=weights(2))
    one("mvn", "MeanVarianceNormalization", image, image, axes=[2, 3])
    one("lp_norm", "LpNormalization", image, image, axis=1, p=1)
    bounded = lambda op: [node("Tanh", ["x"], ["t"]), node(op, ["t"], ["y"])]
    write("op_asin", bounded("Asin"), image, image)
    write("op_acos", bounded("Acos"), image, image)
    one("atan", "Atan", image, image)
    one("cum_prod", "CumProd", image, image, opset=26, a=np.array(2, np.int64), exclusive=1, reverse=1)
    one("crop_pad", "CenterCropPad", image, ["N", 4, 9, 3], opset=18, s=np.array([9, 3], np.int64), axes=[2, 3])
    one("shrink", "Shrink", image, image, lambd=0.4, bias=0.3)
    one("hardmax", "Hardmax", ["N", 9], ["N", 9], axis=-1)
    one("trilu", "Trilu", ["N", 5, 7], ["N", 5, 7], upper=0, k=np.array(1))
    one("cumsum", "CumSum", image, image, exclusive=1, reverse=1, a=np.array(2))
    one("tan", "Tan", image, image)
    one("asinh", "Asinh", image, image)
    one("conv_transpose", "ConvTranspose", image, ["N", 6, 13, 16], kernel_shape=[3, 3],
        strides=[2, 2], pads=[0, 1, 1, 1], output_padding=[1, 1], group=2, w=weights(4, 3, 3, 3),
        b=weights(6))
    one("conv_transpose_same", "ConvTranspose", image, ["N", 3, 17, 16], auto_pad="SAME_LOWER",
        strides=[3, 2], dilations=[1, 2], w=weights(4, 3, 2, 3))
    one("einsum_attention", "Einsum", ["N", 5, 2, 3], ["N", 2, 5, 7],
        equation="bqhd,khd->bhqk", k=weights(7, 2, 3))
    one("einsum_dots", "Einsum", ["N", 4, 3], ["N", 4], equation="...j->...")
    one("scatter_elements", "ScatterElements", [1, 3, 5], [1, 3, 5], axis=2,
        i=np.array([[[0, 4], [1, -1]]]), u=weights(1, 2, 2))
    one("scatter_nd", "ScatterND", [4, 5], [4, 5], i=np.array([[1], [3]]), u=weights(2, 5))
    one("fused_conv", "FusedConv", image, ["N", 5, 6, 8], domain="com.microsoft",
        pads=[1, 1, 1, 1], activation="LeakyRelu", activation_params=[0.2], w=weights(5, 4, 3, 3),
        b=weights(5))
    one("fast_gelu", "FastGelu", image, image, domain="com.microsoft")
    one("fused_matmul", "FusedMatMul", ["N", 4, 6], ["N", 6, 5], domain="com.microsoft", alpha=0.5,
        transA=1, b=weights(4, 5))
    one("resize_antialias", "Resize", [1, 2, 9, 11], [1, 2, 4, 5], opset=18,
        mode="cubic", antialias=1, roi=np.zeros(0, np.float32), s=np.zeros(0, np.float32),
        z=np.array([1, 2, 4, 5]))
    one("resize_floor", "Resize", image, ["N", 4, 7, 10], opset=18, mode="nearest",
        nearest_mode="ceil", coordinate_transformation_mode="half_pixel", roi=np.zeros(0, np.float32),
        s=np.array([1, 1, 1.3, 1.3], np.float32))
    bits = weights(3, 4, 3, 3)
    quant = np.clip(np.round(bits * 3), -8, 7).astype(int).ravel()[:48]
    quant = helper.make_tensor("w", TensorProto.INT4, [6, 8], quant.tolist())
    write("op_int4_blocks", [
        node("DequantizeLinear", ["w", "s"], ["wf"], axis=1, block_size=4),
        node("MatMul", ["x", "wf"], ["y"]),
    ], ["N", 6], ["N", 8], 21, w=quant,
        s=np.abs(weights(6, 2)))
    write("op_topk", [
        node("TopK", ["x", "k"], ["v", "i"], axis=1),
        node("Cast", ["i"], ["f"], to=F),
        node("Concat", ["v", "f"], ["y"], axis=1),
    ], ["N", 12], ["N", 6], k=np.array([3]))
    write("op_gather_elements", [
        node("TopK", ["x", "k"], ["v", "i"], axis=2, largest=0),
        node("GatherElements", ["x", "i"], ["y"], axis=2),
    ], ["N", 3, 9], ["N", 3, 4], k=np.array([4]))
    write("op_loop", [
        node("Loop", ["m", "", "x"], ["last", "all"], body=loop_body()),
        node("Unsqueeze", ["last", "zero"], ["l"]),
        node("Concat", ["l", "all"], ["c"], axis=0),
        node("Transpose", ["c"], ["y"], perm=[1, 0, 2]),
    ], [2, 5], [2, 4, 5], m=np.array(3), zero=np.array([0]))


def attention():
    """Attention with heads in an axis and in numbers, masks of both kinds, and shared keys."""
    sequence = ["N", 5, 12]
    write("op_attention", [
        node("MatMul", ["x", "k"], ["xk"]),
        node("MatMul", ["x", "v"], ["xv"]),
        node("Attention", ["x", "xk", "xv"], ["y"], q_num_heads=4, kv_num_heads=2, is_causal=1),
    ], sequence, ["N", 5, 16], 23, k=weights(12, 6), v=weights(12, 8))
    write("op_attention_mask", [
        node("Attention", ["x", "k", "v", "m"], ["y"], scale=0.3, softcap=2.0),
    ], [2, 3, 5, 4], [2, 3, 5, 6], 23, k=weights(2, 3, 7, 4), v=weights(2, 3, 7, 6),
        m=np.tril(np.ones((5, 7), bool), 1))


def sampling():
    """Spatial transformers."""
    for name, corners, mode, padding in [
        ("zeros", 0, "linear", "zeros"), ("border", 1, "linear", "border"),
        ("reflect", 0, "linear", "reflection"), ("nearest", 0, "nearest", "zeros"),
    ]:
        # Some places lie outside; those in the middle of two cells would be the nearest of either.
        grid = weights(2, 5, 7, 2)
        write(f"op_grid_sample_{name}", [
            node("GridSample", ["x", "g"], ["y"], align_corners=corners, mode=mode, padding_mode=padding),
        ], [2, 3, 6, 8], [2, 3, 5, 7], 20, g=grid)
    for corners in (0, 1):
        write(f"op_affine_grid_{corners}", [
            node("AffineGrid", ["x", "s"], ["y"], align_corners=corners),
        ], [2, 2, 3], [2, 4, 5, 2], 20, s=np.array([2, 3, 4, 5]))


def endings():
    """Classifiers that end in something else than a score per class."""
    linear = node("Gemm", ["x", "w", "b"], ["s"], transB=1)
    three = dict(w=weights(3, 6), b=weights(3))
    one_ = dict(w=weights(1, 6), b=weights(1))
    write("end_argmax", [
        linear, node("ArgMax", ["s"], ["i"], axis=1, keepdims=0), node("Cast", ["i"], ["y"], to=F),
    ], ["N", 6], ["N"], **three)
    write("end_sigmoid", [linear, node("Sigmoid", ["s"], ["y"])], ["N", 6], ["N", 3], **three)
    write("end_logit", [node("Gemm", ["x", "w", "b"], ["y"], transB=1)], ["N", 6], ["N", 1], **one_)
    write("end_probability", [
        node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["s"]),
        node("Sigmoid", ["s"], ["p"]), node("Squeeze", ["p", "one"], ["y"]),
    ], ["N", 6], ["N"], w=weights(6, 1), b=weights(1), one=np.array([1]))


def loop_body():
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [
            node("Cast", ["i"], ["fi"], to=F),
            node("Add", ["a", "fi"], ["s"]),
            node("Relu", ["s"], ["b"]),
            node("Identity", ["b"], ["scan"]),
            node("Identity", ["go"], ["on"]),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("a", F, [2, 5])],
        [value("on", TensorProto.BOOL, []), value("b", F, [2, 5]), value("scan", F, [2, 5])],
    )


def batches():
    """Networks whose file fixes the batch."""
    for batch in (1, 8):
        write(f"batch{batch}_windows", [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            node("Reshape", ["t", "apart"], ["a"]),
            node("Transpose", ["a"], ["aw"], perm=[0, 1, 3, 2, 4, 5]),
            node("Reshape", ["aw", "rows"], ["r"]),
            node("MatMul", ["r", "qk"], ["q"]),
            node("Transpose", ["q"], ["qt"], perm=[0, 2, 1]),
            node("MatMul", ["q", "qt"], ["s"]),
            node("Reshape", ["s", "masked"], ["sm"]),
            node("Add", ["sm", "mask"], ["sa"]),
            node("Reshape", ["sa", "flat"], ["sf"]),
            node("Softmax", ["sf"], ["p"], axis=-1),
            node("MatMul", ["p", "r"], ["o"]),
            node("Reshape", ["o", "back"], ["ob"]),
            node("Transpose", ["ob"], ["ot"], perm=[0, 1, 3, 2, 4, 5]),
            node("Reshape", ["ot", "image"], ["im"]),
            node("ReduceMean", ["im"], ["m"], axes=[1, 2], keepdims=0),
            node("Gemm", ["m", "w", "b"], ["y"]),
        ], [batch, 6, 8, 8], [batch, 10], 13,
            apart=np.array([batch, 2, 4, 2, 4, 6]), rows=np.array([4 * batch, 16, 6]),
            qk=weights(6, 6), masked=np.array([batch, 4, 16, 16]), mask=weights(4, 16, 16),
            flat=np.array([-1, 16, 16]), back=np.array([batch, 2, 2, 4, 4, 6]),
            image=np.array([batch, 8, 8, 6]), w=weights(6, 10), b=weights(10))
        write(f"batch{batch}_sequence_first", [
            node("Reshape", ["x", "tokens"], ["t"]),
            node("Transpose", ["t"], ["l"], perm=[2, 0, 1]),
            node("MatMul", ["l", "q"], ["lq"]),
            node("Reshape", ["lq", "heads"], ["h"]),
            node("Transpose", ["h"], ["hq"], perm=[1, 0, 2]),
            node("Transpose", ["h"], ["hk"], perm=[1, 2, 0]),
            node("MatMul", ["hq", "hk"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("MatMul", ["p", "hq"], ["o"]),
            node("Transpose", ["o"], ["ot"], perm=[1, 0, 2]),
            node("Reshape", ["ot", "long"], ["ol"]),
            node("Gemm", ["ol", "w", "b"], ["g"]),
            node("Reshape", ["g", "sequence"], ["gs"]),
            node("Expand", ["cls", "each"], ["c"]),
            node("Concat", ["c", "gs"], ["cat"], axis=0),
            node("Gather", ["cat", "first"], ["f"], axis=0),
            node("ReduceMax", ["cat"], ["m"], axes=[0], keepdims=0),
            node("Add", ["f", "m"], ["y"]),
        ], [batch, 6, 4, 4], [batch, 6], 13,
            tokens=np.array([batch, 6, 16]), q=weights(6, 6), heads=np.array([16, 2 * batch, 3]),
            long=np.array([16 * batch, 6]), w=weights(6, 6), b=weights(6),
            sequence=np.array([16, batch, 6]), cls=weights(1, 1, 6), each=np.array([1, batch, 6]),
            first=np.array(0))


def fed(info, batch, start=0):
    shape = []
    for axis, d in enumerate(info.shape):
        shape.append(d if isinstance(d, int) else batch if axis == 0 else {2: 48, 3: 192}[axis])
    i = np.arange(start, start + int(np.prod(shape)), dtype=np.int64)
    whole = i * 7919 % 1000 - 500
    x = whole.astype(np.float32) / np.float32(250)
    if "int8" in info.type:
        x = np.trunc(whole / 12.5).astype(np.int8)
    return x.reshape(shape)


def expect():
    found = {}
    for path in sorted(glob.glob(f"{HERE}/*.onnx")):
        inputs, run_file = computed(path)
        fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        runs = {1: 3, None: 1, 8: 1}.get(fixed, 1)
        outs = []
        for run in range(runs):
            feed, start = {}, 0
            for info in inputs:
                size = int(np.prod(fed(info, 3).shape))
                feed[info.name] = fed(info, 3, start=run * size)
            outs.append(run_file(feed))
        outputs = [np.concatenate([o[i] for o in outs]) if runs > 1 else outs[0][i]
                   for i in range(len(outs[0]))]
        found[os.path.basename(path)] = {
            "inputs": [[3 if runs > 1 else fed(i, 3).shape[0], *fed(i, 3).shape[1:]] for i in inputs],
            "outputs": [{"shape": o.shape, "data": [float(f"{v:.9g}") for v in o.ravel()]} for o in outputs],
        }
    text = json.dumps(found)
    with open(f"{HERE}/expected.json", "w") as file:
        file.write(text.replace('}]}, "', '}]},\n"') + "\n")


def signals():
    """Fourier transforms, windows, bits, and what else is made of constants; turned pairs and windows of attention."""
    for name, shape, axis, more in [
        ("dft", [3, 8, 1], 1, {}), ("dft_onesided", [3, 4, 9, 1], 2, dict(onesided=1)),
        ("dft_inverse", [3, 6, 5, 2], 1, dict(inverse=1)),
    ]:
        kept = list(shape[:-1]) + [2]
        if more.get("onesided"):
            kept[axis] = shape[axis] // 2 + 1
        write(f"op_{name}", [node("DFT", ["x", "", "axis"], ["y"], **more)],
              ["N", *shape[1:]], ["N", *kept[1:]], 20, axis=np.array(axis))
    write("op_dft_longer", [node("DFT", ["x", "length"], ["y"], axis=1)],
          ["N", 5, 1], ["N", 7, 2], 17, length=np.array(7))
    for window in ("Hann", "Hamming", "Blackman"):
        for periodic in (0, 1):
            write(f"op_{window.lower()}_{periodic}", [
                node(f"{window}Window", ["n"], ["w"], periodic=periodic), node("Mul", ["x", "w"], ["y"]),
            ], ["N", 10], ["N", 10], 17, n=np.array(10, np.int32))
    write("op_stft", [
        node("HannWindow", ["length"], ["w"]),
        node("STFT", ["x", "step", "w", "length"], ["y"]),
    ], ["N", 40, 1], ["N", 7, 9, 2], 17, step=np.array(4), length=np.array(16))
    write("op_mel", [
        node("MelWeightMatrix", ["bins", "length", "rate", "low", "high"], ["m"]), node("MatMul", ["x", "m"], ["y"]),
    ], ["N", 33], ["N", 8], 17, bins=np.array(8), length=np.array(64), rate=np.array(16000),
        low=np.array(100, np.float32), high=np.array(7000, np.float32))
    write("op_det", [node("Add", ["x", "w"], ["a"]), node("Det", ["a"], ["y"])], ["N", 4, 4], ["N"], 11, w=weights(4, 4))
    for name, image, blocks, more in [
        ("plain", [4, 6], 6, {}), ("strided", [5, 7], 12, dict(strides=[2, 1], pads=[1, 0, 1, 0], dilations=[1, 2])),
    ]:
        block = {"plain": [2, 3], "strided": [3, 2]}[name]
        count = {"plain": 3 * 4, "strided": 3 * 5}[name]
        write(f"op_col2im_{name}", [node("Col2Im", ["x", "image", "block"], ["y"], **more)],
              ["N", 12, count], ["N", 2, *image], 18, image=np.array(image), block=np.array(block))
    write("op_bits", [
        node("BitwiseAnd", ["a", "b"], ["and"]), node("BitwiseOr", ["a", "b"], ["or"]),
        node("BitwiseXor", ["a", "b"], ["xor"]), node("BitwiseNot", ["a"], ["not"]),
        node("BitShift", ["a", "few"], ["left"], direction="LEFT"),
        node("BitShift", ["b", "few"], ["right"], direction="RIGHT"),
        *[node("Cast", [n], [f"{n}_f"], to=F) for n in ("and", "or", "xor", "not", "left", "right")],
        node("Concat", [f"{n}_f" for n in ("and", "or", "xor", "not", "left", "right")], ["all"], axis=0),
        node("Mul", ["x", "all"], ["y"]),
    ], ["N", 24], ["N", 24], 18, a=np.array([1, 77, 200, 255], np.uint8), b=np.array([3, 14, 159, 26], np.uint8),
        few=np.array([1, 3, 2, 7], np.uint8))
    write("op_non_zero", [
        node("NonZero", ["m"], ["i"]), node("Transpose", ["i"], ["t"]), node("GatherND", ["x", "t"], ["y"]),
    ], [3, 4], [5], 17, m=np.array([[0, 1, 0, 2], [0, 0, 0, -1], [3, 0, 4, 0]], np.float32))
    sequence = ["N", 5, 12]
    for name, more in [("left", dict(left_window_size=1)), ("both", dict(left_window_size=2, right_window_size=1))]:
        write(f"op_attention_window_{name}", [
            node("Attention", ["x", "x", "x"], ["y"], q_num_heads=3, kv_num_heads=3, **more),
        ], sequence, sequence, 28)
    angles = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    write("op_rotary", [
        node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"], num_heads=2),
    ], [2, 5, 12], [2, 5, 12], 23, c=angles(8, 3), s=angles(8, 3), p=np.array([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]]))
    write("op_rotary_mixed", [
        node("RotaryEmbedding", ["x", "c", "s"], ["y"], interleaved=1, rotary_embedding_dim=4),
    ], [2, 3, 5, 6], [2, 3, 5, 6], 23, c=angles(2, 5, 2), s=angles(2, 5, 2))
    write("op_swiglu", [node("MatMul", ["x", "w"], ["g"]), node("SwiGLU", ["g", "x"], ["y"], alpha=1.3)],
          ["N", 4, 6], ["N", 4, 6], 28, w=weights(6, 6))


def computed(path):
    """What computes a file: ONNX Runtime, or ONNX's own evaluator of what that doesn't know."""
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.get_inputs(), lambda feed: session.run(None, feed)
    except Exception as error:
        print(f"{os.path.basename(path)}: ONNX's evaluator ({str(error)[:80]})")
        evaluator = ReferenceEvaluator(path)
        info = []
        for value in onnx.load(path).graph.input:
            dims = value.type.tensor_type.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
            info.append(SimpleNamespace(name=value.name, shape=shape, type="tensor(float)"))
        return info, lambda feed: evaluator.run(None, feed)


operators()
batches()
attention()
sampling()
endings()
signals()
expect()
