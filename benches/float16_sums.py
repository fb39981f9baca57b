#!/usr/bin/env python3
"""float16_sums.py MODEL.fp32.onnx…: how far pictures are from float32's when a decoder or generator of Gemm, ConvTranspose
(kernel 4, stride 2, pads 1), Relu, Tanh and Sigmoid is computed in float16 as a CPU with FEAT_FP16 would: a fused
multiplication and addition at a time, each rounded to float16. PSNR in dB of 64 latents, mean and worst, peak 1 for
sigmoid, 2 for tanh; beside it weights alone in float16, which is what edgegen computes of a float16 file on
other CPUs."""

import sys

import numpy as np
import onnx
from onnx import numpy_helper


def product(x, w, half):
    """(rows, K) · (K, outputs)."""
    if not half:
        return x @ w
    sums = np.zeros((x.shape[0], w.shape[1]), np.float16)
    for k in range(x.shape[1]):
        # the float32 product of float16 numbers is exact; adding it rounds twice at most
        exact = sums.astype(np.float64) + x[:, k : k + 1].astype(np.float64) * w[k].astype(np.float64)
        sums = exact.astype(np.float16)
    return sums.astype(np.float32)


def transposed(x, w, half):
    """ConvTranspose, NCHW by (in, out, 4, 4), as one product for each of four phases."""
    n, c, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((n, w.shape[1], 2 * height, 2 * width), np.float32)
    for i in range(2):
        for j in range(2):
            taps = [(dy, dx) for dy in range(2) for dx in range(2)]
            windows = [padded[:, :, i + dy : i + dy + height, j + dx : j + dx + width] for dy, dx in taps]
            columns = np.stack(windows, -1).transpose(0, 2, 3, 4, 1).reshape(n * height * width, -1)
            kernels = np.stack([w[:, :, 3 - i - 2 * dy, 3 - j - 2 * dx] for dy, dx in taps])
            rows = product(columns, kernels.reshape(-1, w.shape[1]), half)
            y[:, :, i::2, j::2] = rows.reshape(n, height, width, -1).transpose(0, 3, 1, 2)
    return y


def run(graph, x, weights, half):
    values = {graph.input[0].name: x}

    def rounded(values):
        return values.astype(np.float16).astype(np.float32) if half else values

    for node in graph.node:
        read = [values.get(name, weights.get(name)) for name in node.input]
        if node.op_type == "Gemm":
            y = rounded(product(rounded(read[0]), read[1].T, half) + read[2])
        elif node.op_type == "ConvTranspose":
            y = transposed(rounded(read[0]), read[1], half)
            y = rounded(y + (read[2].reshape(1, -1, 1, 1) if len(read) > 2 else 0))
        elif node.op_type == "Reshape":
            y = read[0].reshape(len(x), *read[1][1:])
        else:
            functions = {"Relu": lambda v: np.maximum(v, 0), "Tanh": np.tanh, "Sigmoid": lambda v: 1 / (1 + np.exp(-np.maximum(v, -80)))}
            y = functions[node.op_type](read[0])
        values[node.output[0]] = y
    return y


for path in sys.argv[1:]:
    graph = onnx.load(path).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    narrow = {name: w.astype(np.float16).astype(np.float32) if w.dtype == np.float32 else w for name, w in weights.items()}
    size = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    x = np.random.default_rng(7).standard_normal((64, size)).astype(np.float32)
    exact = run(graph, x, weights, False)
    peak = 2 if graph.node[-1].op_type == "Tanh" else 1
    for name, half in [("weights in float16", False), ("all in float16", True)]:
        error = ((run(graph, x, narrow, half) - exact) ** 2).reshape(64, -1).mean(1)
        psnr = 10 * np.log10(peak**2 / error)
        print(f"{path}: {name:20} {psnr.mean():.1f} dB, worst {psnr.min():.1f}")
