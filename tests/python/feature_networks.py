#!/usr/bin/env python3
"""feature_networks.py FOLDER [--eval FILE.onnx]: networks that people have, as PyTorch's exporter and TensorFlow's
converter leave them, with their features and gradients by PyTorch, for trainer/tests/pytorch.rs.

FOLDER gets NAME.onnx and NAME.safetensors: x (N, 3, H, W), tapS for each stride S, seedS (the gradient of tapS), and gx
(the gradient of the sum over taps of seed · tap with respect to x). Weights are random; what counts is the form."""

import argparse
import pathlib
import warnings

import numpy as np
import onnx
import torch
import torch.nn.functional as F
import torchvision
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
SIZE = 64
STRIDES = (4, 8, 16, 32)


class Run:
    """An ONNX graph in PyTorch, as far as the networks here need it; every value is kept."""

    def __init__(self, model):
        self.graph = model.graph
        self.constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in self.graph.initializer}

    def __call__(self, x):
        values = dict(self.constants)
        name = next(i.name for i in self.graph.input if i.name not in values)
        values[name] = x
        order = []
        for node in self.graph.node:
            own = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            inputs = [values[name] if name else None for name in node.input]
            values[node.output[0]] = self.node(node.op_type, own, *inputs)
            order.append(node.output[0])
        return values, order

    def window(self, x, own, kernel):
        strides, pads = own.get("strides", [1, 1]), own.get("pads", [0, 0, 0, 0])
        if own.get("auto_pad", b"NOTSET") == b"SAME_UPPER":
            total = [max((-(-s // t) - 1) * t + k - s, 0) for s, t, k in zip(x.shape[2:], strides, kernel)]
            pads = [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]
        return strides, (pads[1], pads[3], pads[0], pads[2])

    def node(self, kind, own, *inputs):
        x = inputs[0] if inputs else None
        if kind == "Constant":
            return torch.from_numpy(numpy_helper.to_array(own["value"]).copy())
        if kind == "Conv":
            strides, pads = self.window(x, own, inputs[1].shape[2:])
            return F.conv2d(F.pad(x, pads), inputs[1], inputs[2] if len(inputs) > 2 else None, strides, groups=own.get("group", 1))
        if kind == "BatchNormalization":
            return F.batch_norm(x, inputs[3], inputs[4], inputs[1], inputs[2], eps=own.get("epsilon", 1e-5))
        if kind == "MaxPool":
            strides, pads = self.window(x, own, own["kernel_shape"])
            return F.max_pool2d(F.pad(x, pads, value=float("-inf")), own["kernel_shape"], strides)
        if kind == "AveragePool":
            return F.avg_pool2d(x, own["kernel_shape"], own.get("strides", [1, 1]))
        if kind in ("GlobalAveragePool", "ReduceMean"):
            return x.mean((2, 3), keepdim=kind == "GlobalAveragePool" or own.get("keepdims", 1) == 1)
        if kind == "Clip":
            return x.clamp(float(inputs[1]), float(inputs[2]))
        if kind == "Transpose":
            return x.permute(*own["perm"])
        plain = {
            "Relu": torch.relu, "HardSwish": F.hardswish, "HardSigmoid": F.hardsigmoid, "Sigmoid": torch.sigmoid, "Identity": lambda x: x, "Dropout": lambda x, *_: x,
            "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div,
            "Concat": lambda *all: torch.cat(all, own["axis"]), "Flatten": lambda x: x.flatten(own.get("axis", 1)),
            "Gemm": lambda x, w, b: F.linear(x, w, b), "Reshape": lambda x, s: x.reshape([int(v) for v in s]),
        }
        return plain[kind](*inputs)


def save(folder, name, model, channels_last=False, size=SIZE):
    """Writes the file, and what PyTorch makes of it."""
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    torch.manual_seed(3)
    x = torch.rand(2, 3, size, size).requires_grad_()
    values, order = Run(model)(x.permute(0, 2, 3, 1) if channels_last else x)
    taps = {}
    for value in order:
        own = values[value]
        turned = channels_last and own.dim() == 4 and own.shape[1] == size
        if own.dim() == 4 and own.shape[2] > 1 and not turned:
            taps[2 ** round(np.log2(size / own.shape[2]))] = own
    tensors, loss = {"x": x}, 0
    for stride in STRIDES:
        if stride in taps:
            seed = torch.randn(taps[stride].shape)
            tensors |= {f"tap{stride}": taps[stride], f"seed{stride}": seed}
            loss = loss + (seed * taps[stride]).sum()
    loss.backward()
    tensors["gx"] = x.grad
    save_file({name: t.detach().float().contiguous() for name, t in tensors.items()}, folder / f"{name}.safetensors")
    print(name, sorted(taps))


def exported(network):
    """As torch.onnx writes it."""
    torch.manual_seed(1)
    network = network()
    with torch.no_grad():
        # statistics and scales that are neither 0 nor 1
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.7, 1.3)
                module.bias.uniform_(-0.2, 0.2)
    path = pathlib.Path(torch.hub.tempfile.mkdtemp()) / "network.onnx"
    torch.onnx.export(network.eval(), torch.rand(2, 3, SIZE, SIZE), path, dynamo=False, opset_version=17,
                      do_constant_folding=False, input_names=["image"], dynamic_axes={"image": {0: "n"}})
    return onnx.load(path)


def converted():
    """As tf2onnx writes a Keras network: pictures with channels last, scaled inside, SAME padding written out."""
    chance = np.random.default_rng(2)
    weight = lambda *shape: (chance.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    constants = {
        "scale": np.float32(1 / 0.25), "mean": np.array([0.4, 0.5, 0.6], np.float32), "zero": np.float32(0), "six": np.float32(6),
        "w0": weight(8, 3, 3, 3), "w1": weight(8, 1, 3, 3), "w2": weight(12, 8, 1, 1), "w3": weight(12, 1, 5, 5),
        "w4": weight(16, 12, 1, 1), "w5": weight(4, 16, 1, 1), "w6": weight(16, 4, 1, 1), "w7": weight(16, 1, 3, 3),
    }
    conv = lambda x, w, out, group=1, **more: helper.make_node("Conv", [x, w], [out], group=group, **more)
    same = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
    relu6 = lambda x, out: helper.make_node("Clip", [x, "zero", "six"], [out])
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"]), helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x"], perm=[0, 3, 1, 2]),
        conv("x", "w0", "a0", **same), relu6("a0", "b0"),
        conv("b0", "w1", "a1", 8, auto_pad="SAME_UPPER", strides=[2, 2]), relu6("a1", "b1"), conv("b1", "w2", "a2"),
        conv("a2", "w3", "a3", 12, auto_pad="SAME_UPPER", strides=[2, 2]), relu6("a3", "b3"), conv("b3", "w4", "a4"),
        # squeeze and excitation
        helper.make_node("GlobalAveragePool", ["a4"], ["s0"]), conv("s0", "w5", "s1"), helper.make_node("Relu", ["s1"], ["s2"]),
        conv("s2", "w6", "s3"), helper.make_node("Sigmoid", ["s3"], ["s4"]), helper.make_node("Mul", ["s4", "a4"], ["e"]),
        helper.make_node("Sigmoid", ["e"], ["g"]), helper.make_node("Mul", ["e", "g"], ["swish"]),
        conv("swish", "w7", "a7", 16, auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("ReduceMean", ["a7"], ["features"], axes=[2, 3], keepdims=0),
    ]
    port = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "converted", [port("image", ["n", SIZE, SIZE, 3])], [port("features", ["n", 16])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--eval", type=pathlib.Path, help="one more file")
    arguments = parser.parse_args()
    models = torchvision.models
    for name, network in {
        "mobilenet_v2": models.mobilenet_v2, "mobilenet_v3_small": models.mobilenet_v3_small,
        "resnet18": models.resnet18, "vgg11": lambda: models.vgg11().features, "squeezenet": models.squeezenet1_1,
    }.items():
        save(arguments.folder, name, exported(network))
    save(arguments.folder, "converted", converted(), channels_last=True)
    if arguments.eval:
        save(arguments.folder, "eval", onnx.load(arguments.eval))


if __name__ == "__main__":
    main()
