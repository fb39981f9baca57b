#!/usr/bin/env python3
"""One of edgegen's float32 ONNX files as LiteRT files, float32 and full-integer int8, for benches/compare.py.

    python3 -m venv F && F/bin/pip install tensorflow-cpu onnx
    F/bin/python benches/peers/litert.py models/mnist-vae2/decoder.fp32.onnx OUT

writes OUT.fp32.tflite and OUT.int8.tflite: NHWC, the weights of dense layers in its order, so that no transposition is left;
activations int8 after calibration on 64 inputs, weights per channel; input and output float32. A chain of Gemm, Reshape,
Flatten, Conv, ConvTranspose, Relu, Tanh and Sigmoid is understood, and several outputs at its end."""

import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import tensorflow as tf


def attributes(node):
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def convert(graph, constants):
    """A function of the input, NHWC or (1, values)."""
    shapes = {}  # (channels, height, width) of pictures
    source = graph.input[0]
    shape = [dim.dim_value for dim in source.type.tensor_type.shape.dim][1:]
    picture = len(shape) == 3
    if picture:
        shapes[source.name] = tuple(shape)
    fed = [1, shape[1], shape[2], shape[0]] if picture else [1, shape[0]]

    # the shape of the picture that a Reshape makes of a dense layer's values
    made = {node.input[0]: node for node in graph.node if node.op_type == "Reshape"}

    def run(x):
        values = {source.name: x}
        flat = {}  # values of a picture laid out HWC where ONNX has CHW
        for node in graph.node:
            first = values[node.input[0]]
            kept = attributes(node)
            weights = [constants[name] for name in node.input[1:] if name in constants]
            name = node.output[0]
            if node.op_type == "Gemm":
                weight = weights[0].T if kept.get("transB") else weights[0]  # (in, out)
                bias = weights[1] if len(weights) > 1 else np.zeros(weight.shape[1], np.float32)
                if node.input[0] in flat:
                    channels, height, width = flat[node.input[0]]
                    weight = weight.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(weight.shape)
                reader = name
                while reader not in made:
                    users = [user for user in graph.node if reader in user.input and user.op_type == "Relu"]
                    if not users:
                        break
                    reader = users[0].output[0]
                if reader in made:
                    target = constants[made[reader].input[1]].tolist()[1:]
                    weight = weight.reshape(-1, *target).transpose(0, 2, 3, 1).reshape(weight.shape)
                    bias = bias.reshape(target).transpose(1, 2, 0).reshape(-1)
                values[name] = tf.matmul(first, tf.constant(weight)) + tf.constant(bias)
            elif node.op_type == "Reshape":
                channels, height, width = weights[0].tolist()[1:]
                shapes[name] = (channels, height, width)
                values[name] = tf.reshape(first, [1, height, width, channels])
            elif node.op_type == "Flatten":
                flat[name] = shapes[node.input[0]]
                values[name] = tf.reshape(first, [1, -1])
            elif node.op_type in ("Conv", "ConvTranspose"):
                stride, pads = kept["strides"][0], kept.get("pads", [0] * 4)
                kernel = weights[0].shape[2]
                channels, height, width = shapes[node.input[0]]
                if node.op_type == "Conv":
                    padded = tf.pad(first, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]]) if any(pads) else first
                    weight = tf.constant(weights[0].transpose(2, 3, 1, 0))
                    out = tf.nn.conv2d(padded, weight, stride, "VALID")
                elif pads[0] == 0 and height == 1:
                    weight = weights[0].transpose(0, 2, 3, 1)  # (in, kh, kw, out): a dense layer
                    out = tf.matmul(tf.reshape(first, [1, channels]), tf.constant(weight.reshape(channels, -1)))
                    out = tf.reshape(out, [1, kernel, kernel, -1])
                else:
                    size = [(side - 1) * stride + kernel - 2 * pads[0] for side in (height, width)]
                    weight = tf.constant(weights[0].transpose(2, 3, 1, 0))
                    assert size[0] == height * stride, "SAME is what LiteRT has"
                    out = tf.nn.conv2d_transpose(first, weight, [1, *size, weight.shape[2]], stride, "SAME")
                out = out + tf.constant(weights[1]) if len(weights) > 1 else out
                shapes[name] = (out.shape[3], out.shape[1], out.shape[2])
                values[name] = out
            else:
                values[name] = {"Relu": tf.nn.relu, "Tanh": tf.tanh, "Sigmoid": tf.sigmoid}[node.op_type](first)
                if node.input[0] in shapes:
                    shapes[name] = shapes[node.input[0]]
        return [values[output.name] for output in graph.output]

    return tf.function(run, input_signature=[tf.TensorSpec(fed, tf.float32)]), fed, picture


def main():
    model, out = onnx.load(sys.argv[1]), sys.argv[2]
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    function, fed, picture = convert(model.graph, constants)
    random = np.random.default_rng(1)
    draw = lambda: (random.random if picture else random.standard_normal)(fed).astype(np.float32)

    import onnxruntime

    x = draw()
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: x.transpose(0, 3, 1, 2) if picture else x})
    for ours, other in zip(function(x), theirs):
        ours = ours.numpy().transpose(0, 3, 1, 2) if ours.ndim == 4 else ours.numpy()
        assert np.abs(ours - other).max() < 1e-4, "the conversion is wrong"

    for precision in ("fp32", "int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([draw()] for _ in range(64))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        pathlib.Path(f"{out}.{precision}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
