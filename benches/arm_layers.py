"""arm_layers.py FOLDER: files for arm-layers.sh: networks of one and of three equal layers, in float32 and int8 (QDQ), whose
difference is what a layer costs. Depthwise 3 x 3 of 48 channels, and a residual sum with its ReLU, of 16 x 16 pixels. Needs torch and
onnxruntime."""

import os
import sys
import warnings

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

CHANNELS, SIDE = 48, 16
warnings.filterwarnings("ignore")


class Picture(nn.Module):
    def forward(self, x):
        return x.view(x.size(0), CHANNELS, SIDE, SIDE)


class Sums(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count, self.other = count, nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x):
        other = self.other(x)
        for _ in range(self.count):
            x = torch.relu(x + other)
        return x


class Reader(CalibrationDataReader):
    def __init__(self):
        values = np.random.default_rng(1).standard_normal((16, 1, 8)).astype(np.float32)
        self.rows = iter([{"latent": row} for row in values])

    def get_next(self):
        return next(self.rows, None)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for count in (1, 3):
        depthwise = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS) for _ in range(count)]
        for name, layers in (("depthwise", depthwise), ("residual", [Sums(count)])):
            torch.manual_seed(1)
            network = nn.Sequential(nn.Linear(8, CHANNELS * SIDE * SIDE), Picture(), *layers, nn.Conv2d(CHANNELS, 3, 1)).eval()
            path = f"{folder}/{name}{count}.fp32.onnx"
            torch.onnx.export(
                network, (torch.randn(1, 8),), path, dynamo=False, opset_version=13, input_names=["latent"],
                output_names=["image"], dynamic_axes={"latent": {0: "N"}, "image": {0: "N"}},
            )
            quantize_static(
                path, f"{folder}/{name}{count}.int8.onnx", Reader(), quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            )


main()
