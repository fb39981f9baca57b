#!/usr/bin/env python3
"""gradients.py FILE [--seed N] [--cases N]: layers of generated sizes, their results and gradients by PyTorch in float64,
as one safetensors file that trainer/tests/pytorch.rs compares edgegen's layers with.

Each case i has the tensors i/x (N, input...), i/p0, i/p1... (parameters in edgegen's order), i/seed (the gradient of the
result), and i/y, i/gx, i/gp0... (PyTorch's). The file's metadata key "cases" is a JSON list of what each case is."""

import argparse
import json
import random

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)


def convolution(chance):
    depthwise = chance.random() < 0.4
    groups = chance.choice([1, 1, 3, 5]) if not depthwise else chance.randint(2, 9)
    inputs = groups if depthwise else groups * chance.randint(1, 5)
    outputs = groups * chance.choice([1, 1, 2] if depthwise else [1, 2, 3, 5])
    kernel, stride = chance.randint(1, 7), chance.randint(1, 3)
    padding = chance.randint(0, kernel // 2)
    height, width = (chance.randint(max(1, kernel - 2 * padding), 65) for _ in range(2))
    weight, bias = torch.randn(outputs, inputs // groups, kernel, kernel), torch.randn(outputs)
    op = {"op": "conv", "inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": stride, "padding": padding, "groups": groups}
    return op, (inputs, height, width), [weight, bias], lambda x, w, b: F.conv2d(x, w, b, stride, padding, groups=groups)


def transposed(chance):
    inputs, outputs = chance.randint(1, 9), chance.randint(1, 9)
    kernel, stride = chance.randint(1, 6), chance.randint(1, 3)
    padding = chance.randint(0, (kernel - 1) // 2)
    height, width = chance.randint(1, 30), chance.randint(1, 30)
    op = {"op": "transposed", "inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": stride, "padding": padding}
    parameters = [torch.randn(inputs, outputs, kernel, kernel), torch.randn(outputs)]
    return op, (inputs, height, width), parameters, lambda x, w, b: F.conv_transpose2d(x, w, b, stride, padding)


def upsample(chance):
    inputs, outputs, kernel = chance.randint(1, 9), chance.randint(1, 9), chance.choice([1, 3, 5])
    shape = (inputs, chance.randint(1, 32), chance.randint(1, 32))
    op = {"op": "upsample", "inputs": inputs, "outputs": outputs, "kernel": kernel}
    parameters = [torch.randn(outputs, inputs, kernel, kernel), torch.randn(outputs)]
    return op, shape, parameters, lambda x, w, b: F.conv2d(F.interpolate(x, scale_factor=2), w, b, 1, kernel // 2)


def dense(chance):
    inputs, outputs = chance.randint(1, 130), chance.randint(1, 130)
    op = {"op": "dense", "inputs": inputs, "outputs": outputs}
    return op, (inputs,), [torch.randn(outputs, inputs), torch.randn(outputs)], F.linear


def norm(chance):
    channels = chance.choice([1, 3, 4, 6, 12])
    groups = chance.choice([0] + [g for g in (1, 2, 3, channels) if channels % g == 0])
    shape = (channels, chance.randint(1, 20), chance.randint(2, 20))
    op = {"op": "norm", "channels": channels, "groups": groups}
    if groups:
        run = lambda x, scale, shift: F.group_norm(x, groups, scale, shift)
    else:
        run = lambda x, scale, shift: F.batch_norm(x, None, None, scale, shift, training=True)
    return op, shape, [torch.randn(channels), torch.randn(channels)], run


def activation(chance):
    functions = {
        "relu": F.relu, "leaky-relu": lambda x: F.leaky_relu(x, 0.2), "relu6": F.relu6,
        "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": F.silu, "softplus": F.softplus,
        "hard-sigmoid": F.hardsigmoid, "hard-swish": F.hardswish,
    }
    name = chance.choice(list(functions))
    shape = (chance.randint(1, 9), chance.randint(1, 65), chance.randint(1, 65))
    return {"op": "activation", "name": name}, shape, [], functions[name]


def pool(chance):
    kernel, stride = chance.randint(1, 4), chance.randint(1, 3)
    padding = chance.randint(0, kernel // 2)
    shape = (chance.randint(1, 7), chance.randint(kernel, 65), chance.randint(kernel, 65))
    kind = chance.choice(["max", "average", "average-counted"])
    op = {"op": "pool", "kind": kind, "kernel": kernel, "stride": stride, "padding": padding}
    if kind == "max":
        return op, shape, [], lambda x: F.max_pool2d(x, kernel, stride, padding)
    counted = kind == "average-counted"
    return op, shape, [], lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=counted)


def resize(chance):
    shape = (chance.randint(1, 5), chance.randint(1, 65), chance.randint(1, 65))
    height, width = chance.randint(1, 65), chance.randint(1, 65)
    by = chance.choice(["nearest", "bilinear"])
    op = {"op": "resize", "height": height, "width": width, "by": by}
    more = {"align_corners": False} if by == "bilinear" else {}
    return op, shape, [], lambda x: F.interpolate(x, size=(height, width), mode=by, **more)


def shuffle(chance):
    block = chance.randint(2, 3)
    small = (chance.randint(1, 9), chance.randint(1, 20), chance.randint(1, 20))
    if chance.random() < 0.5:
        shape = (small[0] * block * block, *small[1:])
        return {"op": "shuffle", "block": block}, shape, [], lambda x: F.pixel_shuffle(x, block)
    shape = (small[0], small[1] * block, small[2] * block)
    return {"op": "unshuffle", "block": block}, shape, [], lambda x: F.pixel_unshuffle(x, block)


def gate(chance):
    channels = chance.randint(1, 9)
    shape = (2 * channels, chance.randint(1, 30), chance.randint(1, 30))
    return {"op": "glu"}, shape, [], lambda x: F.glu(x, dim=1)


def global_average(chance):
    shape = (chance.randint(1, 30), chance.randint(1, 65), chance.randint(1, 65))
    return {"op": "global-average"}, shape, [], lambda x: x.mean((2, 3), keepdim=True)


KINDS = [convolution] * 5 + [transposed, upsample, dense, norm, activation, pool, resize, shuffle, gate, global_average]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=150)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    tensors, cases = {}, []
    for index in range(arguments.cases):
        op, shape, parameters, run = KINDS[index % len(KINDS)](chance)
        count = chance.choice([1, 3, 16, 17])
        scale = 4 if op["op"] == "activation" else 1  # beyond 6
        x = (scale * torch.randn(count, *shape)).float().double().requires_grad_()
        parameters = [p.float().double().requires_grad_() for p in parameters]
        y = run(x, *parameters)
        seed = torch.randn(y.shape).float().double()
        y.backward(seed)
        own = {"x": x, "y": y, "seed": seed, "gx": x.grad}
        own |= {f"p{number}": p for number, p in enumerate(parameters)}
        own |= {f"gp{number}": p.grad for number, p in enumerate(parameters)}
        tensors |= {f"{index}/{name}": tensor.detach().float().contiguous() for name, tensor in own.items()}
        cases.append({"op": op, "shape": list(shape), "parameters": len(parameters)})
    save_file(tensors, arguments.file, {"cases": json.dumps(cases), "torch": torch.__version__})


if __name__ == "__main__":
    main()
