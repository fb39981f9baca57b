"""make.py: makes cases.safetensors.gz: small networks of an operator or two, with an input and what ONNX says of it.

Two sources. ONNX's own backend node tests (in the package onnx), as far as they have a float32 input: what goes in beside it
becomes constants. And networks that are made here, operator by operator: attributes x opsets, with expected values of ONNX's
reference evaluator, kept where onnxruntime agrees (where it does not, both are printed).

Each network is a generator: latent (1, L) -> Reshape to the operator's input -> the operator -> Reshape to a picture
(1, 1, 1, V). Needs the Python of tests/python/setup.sh."""

import gzip
import json
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HERE = Path(__file__).resolve().parent
NODE_TESTS = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
OPSETS = range(6, 26)
# of a file and its input and output
MOST_BYTES = 6000
warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)


def generator(name, nodes, inputs, main, output, result, opset):
    """A model: `inputs` are (name, array), of which `main` is made of the latent and the others are constants."""
    shape = dict(inputs)[main].shape
    constants = [numpy_helper.from_array(array, name) for name, array in inputs if name != main]
    constants.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), "shape of the input"))
    constants.append(numpy_helper.from_array(np.array([1, 1, 1, result.size], dtype=np.int64), "shape of a picture"))
    nodes = [helper.make_node("Reshape", ["latent", "shape of the input"], [main]), *nodes]
    if result.dtype != np.float32:
        nodes.append(helper.make_node("Cast", [output], ["in floats"], to=TensorProto.FLOAT))
        output = "in floats"
    nodes.append(helper.make_node("Reshape", [output, "shape of a picture"], ["image"]))
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, [1, int(np.prod(shape))])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 1, int(result.size)])
    graph = helper.make_graph(nodes, name, [latent], [image], constants)
    domains = [helper.make_opsetid("", opset)]
    if any(node.domain == "com.microsoft" for node in nodes):
        domains.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def since(node, opset):
    return onnx.defs.get_schema(node.op_type, opset, node.domain).since_version


def node_test(folder):
    """A test of ONNX's, or why it is none for us."""
    model = onnx.load(folder / "model.onnx")
    graph = model.graph
    if any(node.domain for node in graph.node) or model.functions:
        raise ValueError("another domain")
    opset = {entry.domain: entry.version for entry in model.opset_import}[""]
    known = min(max(opset, OPSETS.start), OPSETS.stop - 1)
    if any(since(node, opset) != since(node, known) for node in graph.node):
        # from opset 22 on most versions only add types
        if opset < OPSETS.start or any(since(node, opset) < OPSETS.stop for node in graph.node if since(node, opset) != since(node, known)):
            raise ValueError(f"opset {opset}")

    def read(path):
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)

    data = folder / "test_data_set_0"
    inputs = [(value.name, read(data / f"input_{index}.pb")) for index, value in enumerate(graph.input)]
    result = read(data / "output_0.pb")
    read_names = {name for node in graph.node for name in node.input}
    main = [name for name, array in inputs if array.dtype == np.float32 and array.size and name in read_names]
    if not main:
        raise ValueError("no float32 input")
    if not np.isfinite(dict(inputs)[main[0]]).all():
        raise ValueError("an input that is no latent")
    if result.size == 0 or not np.isfinite(result.astype(np.float64)).all():
        raise ValueError("a result that is no picture")
    name = folder.name.removeprefix("test_")
    made = generator(name, list(graph.node), inputs, main[0], graph.output[0].name, result, known)
    operator = graph.node[0].op_type if len(graph.node) == 1 else "several"
    return f"{operator}/{known}/onnx/{name}", made, dict(inputs)[main[0]], result


def sample(shape, seed=0, low=None):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return values if low is None else (np.abs(values) + low).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


def floats(*values):
    return np.array(values, dtype=np.float32)


def scalar(value, kind=np.float32):
    return np.array(value, dtype=kind)


def made_here():
    """(name, nodes, inputs, opsets): the first input is the latent's, the last node's output the result."""
    picture, vector = sample((1, 3, 4, 5)), sample((1, 7))

    def one(operator, inputs, opsets=OPSETS, name="", domain="", **attributes):
        names = [key for key, _ in inputs]
        node = helper.make_node(operator, names, ["y"], domain=domain, **attributes)
        told = "".join(f"-{key}-{value}" for key, value in attributes.items())
        return (f"{operator}{name}{told}".replace(" ", "").replace("[", "").replace("]", ""), [node], inputs, opsets)

    for operator in (
        "Abs Acos Asin Asinh Atan Atanh Ceil Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish LeakyRelu Mish Neg Reciprocal "
        "Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu Celu Shrink Identity"
    ).split():
        bounded = operator in ("Acos", "Asin", "Atanh")
        x = np.tanh(picture) * 0.9 if bounded else picture * 3
        opsets = {"HardSwish": (14, 21), "Mish": (18, 21, 25)}.get(operator, (7, 11, 13, 21, 25))
        yield one(operator, [("x", x.astype(np.float32))], opsets)
    for operator in ("Acosh", "Log", "Sqrt"):
        yield one(operator, [("x", sample((1, 3, 4, 5), 1, 1.0))], (7, 11, 13, 21, 25))
    large = floats(-200, -90, -30, 0, 30, 90, 200).reshape(1, 7)
    for operator in ("Softplus", "Celu", "Elu", "Selu", "Sigmoid", "Tanh", "Mish", "Erf"):
        yield one(operator, [("x", large)], (18, 21, 25), "-large")
    for alpha in (-0.5, 0.3, 1.5):
        yield one("LeakyRelu", [("x", picture)], (11, 16), alpha=alpha)
        yield one("Elu", [("x", picture)], (7, 11, 21, 25), alpha=alpha)
        if alpha > 0:
            yield one("Celu", [("x", picture)], (12, 21, 25), alpha=alpha)
            yield one("HardSigmoid", [("x", picture)], (7, 11, 21, 25), alpha=alpha, beta=0.1)
            yield one("ThresholdedRelu", [("x", picture)], (7, 11, 21, 25), alpha=alpha)
            yield one("Shrink", [("x", picture)], (7, 11, 21, 25), lambd=alpha, bias=0.1)
    for approximate in ("none", "tanh"):
        yield one("Gelu", [("x", picture)], (20, 21), approximate=approximate)
    for operator in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "PRelu"):
        low = 0.5 if operator == "Pow" else None
        x = sample((1, 3, 4, 5), 0, low)
        for told, other in {
            "one": scalar(0.7), "channel": sample((3, 1, 1), 2), "batched": sample((1, 3, 1, 1), 2),
            "row": sample((5,), 2), "whole": sample((1, 3, 4, 5), 2),
        }.items():
            yield one(operator, [("x", x), ("b", other)], (7, 11, 13, 21, 25), f"-{told}")
        if operator != "PRelu":
            yield one(operator, [("x", sample((1, 3), 0, low)), ("b", sample((1, 1, 3), 2))], (13,), "-rank")
        if operator in ("Add", "Sub", "Mul", "Div", "Pow"):
            base = np.abs(sample((3, 1, 1), 2)) + 0.5
            node = helper.make_node(operator, ["b", "x"], ["y"])
            yield (f"{operator}-turned", [node], [("x", x), ("b", base.astype(np.float32))], (13, 21))
    for low, high in ((-0.5, 0.5), (0.5, -0.5), (None, 0.2), (-0.2, None)):
        node = helper.make_node("Clip", ["x", "low" if low is not None else "", "high" if high is not None else ""], ["y"])
        bounds = [(key, scalar(value)) for key, value in (("low", low), ("high", high)) if value is not None]
        yield (f"Clip-{low}-{high}", [node], [("x", picture), *bounds], (11, 12, 13, 21, 25))
    for axis in (1, 2, 3, -1, -3):
        for operator in ("Softmax", "LogSoftmax", "Hardmax"):
            yield one(operator, [("x", picture * 20)], (11, 12, 13, 21, 25), axis=axis)
    for operator in ("Softmax", "LogSoftmax"):
        yield one(operator, [("x", vector * 500)], (11, 13), "-large")
        yield one(operator, [("x", picture)], (11, 13), "-default")
    for operator in (
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceProd ReduceLogSum ReduceLogSumExp"
    ).split():
        x = sample((1, 3, 4, 5), 0, 0.1) * (50 if operator == "ReduceLogSumExp" else 1)
        for axes in ([1], [2, 3], [-1], [1, 2, 3]):
            for keep in (0, 1):
                old = helper.make_node(operator, ["x"], ["y"], axes=axes, keepdims=keep)
                new = helper.make_node(operator, ["x", "axes"], ["y"], keepdims=keep)
                name = f"{operator}-{axes}-{keep}".replace(" ", "")
                changed = 13 if operator == "ReduceSum" else 18
                yield (name, [old], [("x", x)], [v for v in (11, 13, 17) if v < changed])
                yield (name, [new], [("x", x), ("axes", ints(*axes))], [v for v in (13, 18, 21) if v >= changed])
    for operator in ("ArgMax", "ArgMin"):
        for axis, last in ((1, 0), (2, 1), (-1, 0)):
            yield one(operator, [("x", np.round(picture))], (12, 13), axis=axis, select_last_index=last, keepdims=0)
    weights = {k: sample((4, 3, *k), 3) for k in ((1, 1), (3, 3), (2, 3))}
    grouped = sample((6, 1, 3, 3), 3)
    for kernel, w in weights.items():
        for attributes in (
            {}, {"pads": [1, 0, 2, 1]}, {"strides": [2, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"}, {"dilations": [1, 2]},
            {"kernel_shape": list(kernel)},
        ):
            if "dilations" in attributes and kernel == (3, 3):
                attributes = {**attributes, "pads": [1, 2, 1, 2]}
            try:
                yield one("Conv", [("x", picture), ("w", w), ("b", sample((4,), 4))], (7, 11, 21, 25), f"-{kernel[0]}x{kernel[1]}", **attributes)
            except ValueError:
                continue
    yield one("Conv", [("x", picture), ("w", grouped)], (7, 11, 21, 25), group=3, pads=[1, 1, 1, 1])
    yield one("Conv", [("x", sample((1, 3, 8))), ("w", sample((2, 3, 3), 3))], (11,), "-1d")
    yield one("Conv", [("x", sample((1, 2, 3, 3, 3))), ("w", sample((2, 2, 2, 2, 2), 3))], (11,), "-3d")
    for kernel in ((1, 1), (2, 2), (3, 3), (4, 4), (3, 2)):
        w = sample((3, 2, *kernel), 3)
        for stride in (1, 2, 3):
            for attributes in (
                {}, {"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
                {"output_padding": [1, 0]}, {"output_shape": [4 * stride, 5 * stride]},
                {"output_shape": [4 * stride, 5 * stride], "auto_pad": "SAME_UPPER"},
                {"output_shape": [4 * stride + 3, 5 * stride + 2]}, {"auto_pad": "SAME_UPPER", "output_padding": [1, 1]},
                {"dilations": [2, 2]}, {"group": 3},
            ):
                if "pads" in attributes and min(kernel) < 3 or "output_padding" in attributes and stride == 1:
                    continue
                own = sample((3, 2, *kernel), 3)
                yield one(
                    "ConvTranspose", [("x", picture), ("w", own)], (7, 11, 21, 25), f"-k{kernel[0]}{kernel[1]}",
                    strides=[stride, stride], **attributes,
                )
    for operator in ("MaxPool", "AveragePool"):
        for attributes in (
            {}, {"pads": [1, 0, 1, 1]}, {"strides": [2, 2]}, {"strides": [2, 2], "ceil_mode": 1}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"dilations": [2, 1]},
        ):
            for kernel in ([2, 2], [3, 2]):
                opsets = (19, 21) if operator == "AveragePool" and "dilations" in attributes else (7, 11, 21, 25)
                yield one(operator, [("x", picture)], opsets, kernel_shape=kernel, **attributes)
        if operator == "AveragePool":
            yield one(operator, [("x", picture)], (7, 11, 21, 25), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
            yield one(operator, [("x", picture)], (19, 21), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1, count_include_pad=1)
    for attributes in ({}, {"pads": [1, 0, 1, 1]}, {"strides": [2, 2], "p": 3}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"p": 1}):
        yield one("LpPool", [("x", picture)], (7, 11, 18, 22), kernel_shape=[2, 2], **attributes)
    yield one("LpPool", [("x", picture)], (18, 22), kernel_shape=[2, 2], dilations=[2, 1])
    levels = [("w", np.arange(-60, 60, dtype=np.int8).reshape(1, 3, 8, 5)[:, :, :4]), ("s", scalar(0.02)), ("z", scalar(3, np.int8))]
    back = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], domain="com.microsoft")
    yield ("DequantizeLinear-contributed", [back, helper.make_node("Mul", ["x", "f"], ["y"])], [("x", picture), *levels], (11, 13))
    for operator in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield one(operator, [("x", picture)], (7, 11, 21, 25))
    yield one("GlobalLpPool", [("x", picture)], (7, 11, 21, 25), p=3)
    channels = [(key, sample((3,), seed, 0.5)) for seed, key in enumerate(("scale", "shift", "mean", "variance"))]
    for attributes in ({}, {"epsilon": 0.1}):
        yield one("BatchNormalization", [("x", picture), *channels], (7, 9, 11, 14, 15, 25), **attributes)
        yield one("InstanceNormalization", [("x", picture), *channels[:2]], (7, 11, 21, 25), **attributes)
    for axis in (1, -1, 2):
        size = picture.shape[axis:] if axis > 0 else picture.shape[-1:]
        yield one("LayerNormalization", [("x", picture), ("s", sample(size, 1)), ("b", sample(size, 2))], (17, 21, 25), axis=axis)
    # the forms of versions before 11
    yield one("Softmax", [("x", vector)], (7, 10), "-old", axis=1)
    yield one("Softmax", [("x", picture)], (7, 10), "-old", axis=2)
    for low, high in ((-0.5, 0.5), (None, 0.2), (-0.2, None)):
        yield one("Clip", [("x", picture)], (7, 10), "-old", **{key: value for key, value in (("min", low), ("max", high)) if value is not None})
    for mode in ("constant", "reflect", "edge"):
        value = {"value": 0.4} if mode == "constant" else {}
        yield one("Pad", [("x", picture)], (7, 10), "-old", mode=mode, pads=[0, 0, 1, 2, 0, 0, 3, 1], **value)
        given = [("x", picture), ("pads", ints(0, 0, 1, 2, 0, 0, 3, 1)), ("value", scalar(0.4))]
        yield one("Pad", given, (11, 13, 18, 21, 25), "-value", mode=mode)
    yield one("Slice", [("x", picture)], (7, 9), "-old", axes=[1, 3], starts=[1, -3], ends=[3, 9])
    yield one("Slice", [("x", picture)], (7, 9), "-old", starts=[0, 1, 0, 1], ends=[1, 3, 4, 5])
    for mode in ("nearest", "linear"):
        for height, width in ((2.0, 2.0), (1.5, 2.4), (3.0, 1.0)):
            yield one("Upsample", [("x", picture)], (7, 8), f"-{height}x{width}", mode=mode, scales=[1.0, 1.0, height, width])
            factors = [("x", picture), ("factors", floats(1, 1, height, width))]
            yield one("Upsample", factors, (9,), f"-{height}x{width}", mode=mode)
            yield one("Resize", factors, (10,), f"-old-{height}x{width}", mode=mode)
    yield one("Upsample", [("x", picture), ("factors", floats(1, 1, 2, 2))], (9,), "-default")
    yield one("Dropout", [("x", picture)], (7, 10), "-old", ratio=0.5)
    yield one("Gemm", [("x", vector), ("w", sample((4, 7), 1)), ("b", sample((4,), 2))], (7, 9), "-old", transB=1)
    yield one("Flatten", [("x", picture)], (7, 9), "-old", axis=1)
    yield one("Unsqueeze", [("x", vector)], (7, 10), "-old", axes=[2])
    yield one("DepthToSpace", [("x", sample((1, 8, 3, 2)))], (7, 10), "-old", blocksize=2)
    yield one("Upsample", [("x", picture)], (7,), "-wide", mode="nearest", scales=[1.0, 1.0, 1.0, 4.0])
    wide = sample((1, 4, 3, 3))
    yield one("GroupNormalization", [("x", wide), ("s", sample((4,), 1)), ("b", sample((4,), 2))], (21,), num_groups=2, epsilon=0.01)
    yield one("LRN", [("x", wide)], (11, 13), size=3, alpha=0.2, beta=0.7, bias=1.5)
    for axis, p in ((1, 1), (1, 2), (-1, 2)):
        yield one("LpNormalization", [("x", picture)], (7, 11, 21, 25), axis=axis, p=p)
    matrix = sample((7, 4), 2)
    yield one("MatMul", [("x", vector), ("w", matrix)], (7, 11, 13, 21, 25))
    yield one("MatMul", [("x", picture), ("w", sample((5, 2), 2))], (7, 11, 21, 25), "-picture")
    for alpha, beta, transposed in ((1.0, 1.0, 0), (1.0, 1.0, 1), (0.5, 1.0, 0), (1.0, 0.5, 1), (1.0, 0.0, 0)):
        w = matrix.T.copy() if transposed else matrix
        for told, bias in {"row": sample((4,), 3), "one": sample((1,), 3), "matrix": sample((1, 4), 3)}.items():
            yield one("Gemm", [("x", vector), ("w", w), ("b", bias)], (11, 13), f"-{told}", alpha=alpha, beta=beta, transB=transposed)
    for target in ([1, 60], [1, 5, 4, 3], [0, -1], [1, 3, -1], [0, 0, 20]):
        yield one("Reshape", [("x", picture), ("s", ints(*target))], (11, 14, 21), f"-{target}".replace(" ", ""))
    for axis in (0, 1, 2, -1):
        yield one("Flatten", [("x", picture)], (7, 11, 21, 25), axis=axis)
    single = sample((1, 3, 1, 5))
    squeeze = helper.make_node("Squeeze", ["x"], ["y"], axes=[2])
    yield ("Squeeze-2", [squeeze], [("x", single)], (11, 12))
    yield one("Squeeze", [("x", single), ("a", ints(-2))], (13, 21), "--2")
    unsqueeze = helper.make_node("Unsqueeze", ["x"], ["y"], axes=[2, 3])
    yield ("Unsqueeze-23", [unsqueeze], [("x", vector)], (11, 12))
    yield one("Unsqueeze", [("x", vector), ("a", ints(2, -1))], (13, 21), "-2-1")
    for perm in ([0, 2, 3, 1], [0, 1, 3, 2], [0, 3, 1, 2], [3, 2, 1, 0]):
        yield one("Transpose", [("x", picture)], (7, 11, 21, 25), perm=perm)
    yield one("Transpose", [("x", picture)], (7, 11, 21, 25))
    for block, mode in ((2, "CRD"), (2, "DCR")):
        yield one("DepthToSpace", [("x", sample((1, 8, 2, 3)))], (11, 13), blocksize=block, mode=mode)
    yield one("SpaceToDepth", [("x", sample((1, 2, 4, 6)))], (11, 13), blocksize=2)
    for starts, ends, axes, steps in (
        ([1], [3], [2], None), ([0, -3], [9999, -1], [1, 3], None), ([-1], [-9999], [3], [-1]), ([0, 1], [4, 5], [2, 3], [2, 3]), ([1], [3], None, None),
    ):
        given = [("s", ints(*starts)), ("e", ints(*ends))]
        names = ["x", "s", "e"]
        if axes is None:
            given = [("s", ints(0, *starts)), ("e", ints(1, *ends))]
        else:
            given.append(("a", ints(*axes)))
            names.append("a")
        if steps:
            given.append(("t", ints(*steps)))
            names.append("t")
        node = helper.make_node("Slice", names, ["y"])
        yield (f"Slice-{starts}-{ends}-{steps}".replace(" ", ""), [node], [("x", picture), *given], (7, 11, 13, 21, 25))
    for mode in ("constant", "reflect", "edge"):
        pads = ints(0, 0, 1, 2, 0, 0, 3, 1)
        yield one("Pad", [("x", picture), ("p", pads)], (11, 13, 18, 21), mode=mode)
    yield one("Pad", [("x", picture), ("p", ints(0, 1, 0, -1, 0, 0, 2, 0)), ("v", scalar(0.5))], (7, 11, 21, 25), "-value")
    for axis in (1, 2, -1):
        yield one("Concat", [("x", picture), ("b", picture)], (11, 13), axis=axis)
    halves = helper.make_node("Split", ["x", "parts"], ["y", "rest"], axis=1)
    yield ("Split-parts", [halves], [("x", picture), ("parts", ints(1, 2))], (13, 18, 21))
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            for told, scales in {"up": (2.0, 2.0), "three": (3.0, 3.0), "mixed": (2.0, 1.5), "down": (0.5, 0.6)}.items():
                for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if mode == "nearest" else (None,):
                    more = {"nearest_mode": nearest} if nearest else {}
                    node = helper.make_node(
                        "Resize", ["x", "", "scales"], ["y"], mode=mode, coordinate_transformation_mode=coordinates, **more
                    )
                    name = f"Resize-{mode}-{coordinates}-{told}-{nearest}"
                    yield (name, [node], [("x", sample((1, 2, 4, 5))), ("scales", floats(1, 1, *scales))], (13,))
            node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, coordinate_transformation_mode=coordinates)
            yield (f"Resize-{mode}-{coordinates}-sizes", [node], [("x", sample((1, 2, 4, 5))), ("sizes", ints(1, 2, 8, 10))], (13, 18))
    for operator, opsets in (("Equal", (11, 13)), ("Less", (13,)), ("Greater", (13,)), ("LessOrEqual", (16,)), ("GreaterOrEqual", (16,))):
        yield one(operator, [("x", np.round(picture)), ("b", np.round(sample((3, 1, 1), 2)))], opsets)
    mask = sample((1, 3, 4, 5), 5) > 0
    where = helper.make_node("Where", ["mask", "x", "b"], ["y"])
    yield ("Where", [where], [("x", picture), ("mask", mask), ("b", scalar(2.0))], (11, 16))
    for axis, exclusive, reverse in ((1, 0, 0), (2, 1, 0), (3, 0, 1)):
        yield one("CumSum", [("x", picture), ("a", scalar(axis, np.int64))], (11, 14), f"-{axis}", exclusive=exclusive, reverse=reverse)
    yield one("Tile", [("x", picture), ("r", ints(1, 2, 1, 2))], (11, 13))
    yield one("Expand", [("x", sample((1, 3, 1, 1))), ("s", ints(1, 3, 2, 2))], (11, 13))
    yield one("Gather", [("x", picture), ("i", ints(2, 0))], (11, 13), axis=1)
    yield one("GatherElements", [("x", picture), ("i", np.zeros((1, 3, 4, 2), dtype=np.int64))], (11, 13), axis=3)
    for upper in (0, 1):
        yield one("Trilu", [("x", picture)], (14,), upper=upper)
    yield one("Einsum", [("x", picture), ("b", sample((5, 2), 2))], (12,), equation="bchw,wk->bchk")
    for padding in ("zeros", "border", "reflection"):
        for mode in ("linear", "nearest", "cubic"):
            grid = np.tanh(sample((1, 3, 3, 2), 6)).astype(np.float32)
            yield one("GridSample", [("x", picture), ("g", grid)], (20,), mode=mode, padding_mode=padding, align_corners=1)
    x = sample((4, 1, 3))
    for operator, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        for direction in ("forward", "reverse", "bidirectional"):
            both = 2 if direction == "bidirectional" else 1
            given = [("x", x), ("w", sample((both, gates * 2, 3), 1)), ("r", sample((both, gates * 2, 2), 2)), ("b", sample((both, gates * 4), 3))]
            yield one(operator, given, (11, 14), direction=direction, hidden_size=2)
    yield from quantised(picture, vector)


def quantised(picture, vector):
    """Levels: with and without zero points, of both types."""
    scale, small = scalar(0.05), scalar(0.04)
    for kind, zero in ((np.uint8, 128), (np.uint8, 3), (np.int8, 0), (np.int8, -5)):
        told = f"{kind.__name__}-{zero}"
        levels = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
        back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
        given = [("x", picture * 2), ("s", scale), ("z", scalar(zero, kind))]
        yield (f"QuantizeLinear-{told}", [levels, back], given, (11, 13, 19, 21))
        between = helper.make_node("Relu", ["y"], ["relu"])
        again = helper.make_node("QuantizeLinear", ["relu", "s", "z"], ["q2"])
        last = helper.make_node("DequantizeLinear", ["q2", "s", "z"], ["y2"])
        yield (f"QuantizeLinear-Relu-{told}", [levels, back, between, again, last], given, (13, 21))
        if zero == 0 or kind == np.int8:
            # a zero point that is left out is 0 of the levels' type
            plain = helper.make_node("DequantizeLinear", ["q", "s"], ["y"])
            yield (f"DequantizeLinear-without-{told}", [levels, plain], given, (7, 11, 13, 21, 25))
        typed = 3 if kind == np.int8 else 2
        node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=typed)
        plain = helper.make_node("DequantizeLinear", ["q", "s"], ["y"])
        yield (f"QuantizeLinear-output_dtype-{kind.__name__}", [node, plain], given[:2], (21,))
        other = np.dtype(kind)
        weights = np.random.default_rng(3).integers(-100, 100, (4, 3, 3, 3)).astype(np.int8)
        conv = helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "t", "z", "bias"], ["c"], pads=[1, 1, 1, 1])
        out = helper.make_node("DequantizeLinear", ["c", "t", "z"], ["y"])
        more = [
            ("w", weights), ("ws", np.full(4, 0.01, np.float32)), ("wz", np.zeros(4, np.int8)), ("t", scalar(0.2)),
            ("bias", np.arange(4, dtype=np.int32) * 50),
        ]
        yield (f"QLinearConv-{told}", [levels, conv, out], [*given, *more], (7, 11, 21, 25))
        vectors = [("x", vector), ("s", scale), ("z", scalar(zero, kind)), ("w", weights[:4, :1, 0, :].reshape(4, 3)[:, :2].repeat(2, 0)[:7].copy()), ("ws", scalar(0.02)), ("wz", scalar(0, np.int8)), ("t", scalar(0.1))]
        product = helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "t", "z"], ["c"])
        yield (f"QLinearMatMul-{told}", [levels, product, out], vectors, (7, 11, 21, 25))
        ms = "com.microsoft"
        total = helper.make_node("QLinearAdd", ["q", "s", "z", "q", "s", "z", "t", "z"], ["c"], domain=ms)
        yield (f"QLinearAdd-{told}", [levels, total, out], [*given, ("t", scalar(0.1))], (11, 13))
        for operator, attributes in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})):
            node = helper.make_node(operator, ["q", "s", "z", "t", "z"], ["c"], domain=ms, **attributes)
            t = scalar(1 / 255) if operator == "QLinearSigmoid" else scale
            yield (f"{operator}-{told}", [levels, node, out], [*given, ("t", t)], (11, 13))
            if zero in (0, 128):
                continue
        joined = helper.make_node("QLinearConcat", ["t", "z", "q", "s", "z", "q", "s", "z"], ["c"], domain=ms, axis=1)
        yield (f"QLinearConcat-{told}", [levels, joined, out], [*given, ("t", scalar(0.06))], (11, 13))
    for axis, shape in ((0, (4, 3, 1, 1)), (1, (3, 4, 1, 1))):
        weights = np.random.default_rng(3).integers(-100, 100, shape).astype(np.int8)
        w = weights if axis == 0 else weights
        back = helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["weights"], axis=axis)
        if axis == 0:
            layer = helper.make_node("Conv", ["x", "weights"], ["y"])
        else:
            layer = helper.make_node("ConvTranspose", ["x", "weights"], ["y"])
        given = [("x", picture), ("w", w), ("ws", sample((4,), 2, 0.01) / 50), ("wz", np.zeros(4, np.int8))]
        yield (f"DequantizeLinear-weights-axis-{axis}", [back, layer], given, (13, 21))
    for kind in (np.int16, np.uint16):
        levels = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
        back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
        yield (f"QuantizeLinear-{kind.__name__}", [levels, back], [("x", picture), ("s", scalar(0.0001)), ("z", scalar(0 if kind == np.int16 else 32768, kind))], (21,))


def expected(nodes, inputs, output, opset):
    """What ONNX's evaluator says, if onnxruntime says the same."""
    ports = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in inputs[:1]]
    constants = [numpy_helper.from_array(array, name) for name, array in inputs[1:]]
    out = helper.make_empty_tensor_value_info(output)
    domains = [helper.make_opsetid("", opset)]
    own = all(not node.domain for node in nodes)
    if not own:
        domains.append(helper.make_opsetid("com.microsoft", 1))
    model = helper.make_model(helper.make_graph(nodes, "one", ports, [out], constants), opset_imports=domains, ir_version=8)
    feed = {inputs[0][0]: inputs[0][1]}
    theirs = reference = None
    try:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        theirs = session.run(None, feed)[0]
    except Exception:
        pass
    if own:
        try:
            reference = ReferenceEvaluator(model).run(None, feed)[0]
        except Exception:
            pass
    if theirs is None and reference is None:
        return None, "neither runs it"
    if theirs is None or reference is None:
        only = theirs if reference is None else reference
        return np.asarray(only), "one alone runs it"
    reference = np.asarray(reference)
    if reference.shape != theirs.shape or not np.allclose(reference.astype(np.float64), theirs.astype(np.float64), atol=1e-4, rtol=1e-4):
        return theirs, "they differ: onnxruntime's is kept"
    return theirs, ""


def main():
    cases, said = {}, {}

    def keep(name, model, latent, result):
        model = model.SerializeToString()
        latent = np.ascontiguousarray(latent.reshape(1, -1), dtype=np.float32)
        result = np.ascontiguousarray(result.reshape(1, -1).astype(np.float32))
        if len(model) + latent.nbytes + result.nbytes <= MOST_BYTES and result.size <= 8192:
            cases[name] = (np.frombuffer(model, dtype=np.uint8), latent, result)

    for folder in sorted(NODE_TESTS.iterdir()):
        try:
            keep(*node_test(folder))
        except Exception as reason:
            said[str(reason)[:30]] = said.get(str(reason)[:30], 0) + 1
    for name, nodes, inputs, opsets in made_here():
        output = nodes[-1].output[0]
        for opset in opsets:
            result, problem = expected(nodes, inputs, output, opset)
            if problem:
                print(f"{name} opset {opset}: {problem}")
            if result is None or not np.isfinite(result.astype(np.float64)).all() or result.size == 0:
                continue
            main_name = inputs[0][0]
            model = generator(name, nodes, inputs, main_name, output, result, opset)
            keep(f"{name.split('-')[0]}/{opset}/made/{name}", model, inputs[0][1], result)
    print(len(cases), "cases;", "left out of ONNX's:", said)
    header, body, offset = {"__metadata__": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}}, [], 0
    for name, arrays in sorted(cases.items()):
        for part, array in zip(("model", "latent", "result"), arrays):
            kind = {"uint8": "U8", "float32": "F32"}[array.dtype.name]
            data = array.tobytes()
            header[f"{name}:{part}"] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
            body.append(data)
            offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    target = HERE / "cases.safetensors.gz"
    temporary = target.with_suffix(".new")
    whole = len(text).to_bytes(8, "little") + text + b"".join(body)
    temporary.write_bytes(gzip.compress(whole, 9, mtime=0))
    os.replace(temporary, target)
    print(target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
