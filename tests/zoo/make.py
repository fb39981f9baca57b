"""make.py [NETWORK...]: makes the files of this folder: small networks as PyTorch's two exporters write them, and as
onnxruntime.quantization quantises them. Needs torch, onnxscript, onnx and onnxruntime (versions are printed); the
product and its tests do not. Weights are random: what counts is the form."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

HERE = Path(__file__).resolve().parent
warnings.filterwarnings("ignore")


class View(nn.Module):
    """The first size is computed, as many networks on the web do it."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(x.size(0), *self.shape)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Attention(nn.Module):
    """Self-attention of a picture's pixels, as in SAGAN."""

    def __init__(self, channels):
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 4, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        return x + (value @ weights.transpose(1, 2)).reshape(x.shape)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 17, 4, 2, 1), nn.ReLU(), nn.Conv2d(17, 33, 3, 2, 1), nn.BatchNorm2d(33), nn.LeakyReLU(0.2),
            nn.Conv2d(33, 8, 5, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 40), nn.ReLU(),
        )
        self.mean, self.log_variance = nn.Linear(40, 6), nn.Linear(40, 6)

    def forward(self, x):
        x = self.body(x)
        return self.mean(x), self.log_variance(x)


def up(inputs, outputs, kernel, stride, padding, added=0):
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, added, bias=False)


def networks():
    relu, norm = nn.ReLU, nn.BatchNorm2d
    return {
        # PyTorch's DCGAN example, smaller: 28 × 28
        "dcgan28": (nn.Sequential(
            up(20, 33, 7, 1, 0), norm(33), relu(), up(33, 17, 4, 2, 1), norm(17), relu(), up(17, 1, 4, 2, 1), nn.Tanh(),
        ), (20, 1, 1)),
        # kernel 3 with output padding, leaky ReLU, 3 channels, 48 × 48
        "dcgan48": (nn.Sequential(
            nn.Linear(16, 17 * 6 * 6), View(17, 6, 6), norm(17), nn.LeakyReLU(0.2),
            up(17, 33, 3, 2, 1, 1), norm(33), nn.LeakyReLU(0.2), up(33, 17, 5, 2, 2, 1), norm(17), nn.LeakyReLU(0.1),
            up(17, 3, 4, 2, 1), nn.Tanh(),
        ), (16,)),
        # nearest-neighbour enlargement and residuals, 96 × 96
        "upsample96": (nn.Sequential(
            nn.Linear(16, 12 * 12 * 12, bias=False), nn.Unflatten(1, (12, 12, 12)), relu(),
            nn.Upsample(scale_factor=2), nn.Conv2d(12, 17, 3, padding=1), norm(17), relu(), Residual(17),
            nn.Upsample(scale_factor=2), nn.Conv2d(17, 9, 5, padding=2), relu(),
            nn.Upsample(scale_factor=2), nn.Conv2d(9, 3, 3, padding=1), nn.Sigmoid(),
        ), (16,)),
        # pixel shuffle, 48 × 48
        "shuffle48": (nn.Sequential(
            nn.Linear(8, 16 * 12 * 12), View(16, 12, 12), relu(), nn.Conv2d(16, 17 * 4, 3, padding=1), nn.PixelShuffle(2),
            relu(), Residual(17), nn.Conv2d(17, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid(),
        ), (8,)),
        "decoder28": (nn.Sequential(
            nn.Linear(6, 40), relu(), nn.Linear(40, 17 * 7 * 7), relu(), View(17, 7, 7),
            nn.ConvTranspose2d(17, 33, 4, 2, 1), relu(), nn.ConvTranspose2d(33, 1, 4, 2, 1), nn.Sigmoid(),
        ), (6,)),
        "encoder28": (Encoder(), (1, 28, 28)),
        # what has no kernel between layers that have: norms of one picture, attention, linear enlargement, groups
        "mixed32": (nn.Sequential(
            nn.Linear(8, 16 * 8 * 8), View(16, 8, 8), nn.Conv2d(16, 24, 3, padding=1), nn.InstanceNorm2d(24, affine=True),
            relu(), nn.ConvTranspose2d(24, 16, 4, 2, 1), Attention(16), nn.GroupNorm(4, 16), nn.GELU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 12, 1), nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(12, 3, 3, padding=1), nn.Tanh(),
        ), (8,)),
    }


class Reader(CalibrationDataReader):
    def __init__(self, name, shape):
        values = np.random.default_rng(1).standard_normal((64, *shape)).astype(np.float32)
        self.rows = iter([{name: row[None] for row in [value]} for value in values])

    def get_next(self):
        return next(self.rows, None)


def main():
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    chosen = sys.argv[1:]
    for name, (network, shape) in networks().items():
        if chosen and name not in chosen:
            continue
        torch.manual_seed(len(name))
        for module in network.modules():
            if hasattr(module, "weight") and module.weight is not None and module.weight.dim() > 1:
                nn.init.normal_(module.weight, 0, (2.0 / module.weight[0].numel()) ** 0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        network.eval()
        example = torch.randn(2, *shape)
        encoder = isinstance(network, Encoder)
        outputs = ["mean", "log_variance"] if encoder else ["image"]
        inputs = ["image" if encoder else "latent"]
        old, dynamo = HERE / f"{name}.old.onnx", HERE / f"{name}.dynamo.onnx"
        torch.onnx.export(
            network, (example,), str(old), dynamo=False, opset_version=13, input_names=inputs, output_names=outputs,
            dynamic_axes={port: {0: "N"} for port in inputs + outputs},
        )
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=18, input_names=inputs, output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=64)},), verbose=False,
        )
        program.save(str(dynamo), external_data=False)
        with tempfile.TemporaryDirectory() as folder:
            for source in (old, dynamo):
                prepared = os.path.join(folder, "prepared.onnx")
                quant_pre_process(str(source), prepared, skip_symbolic_shape=True)
                forms = [("qdq", QuantFormat.QDQ, QuantType.QUInt8)]
                if source == old:
                    forms.append(("qdq-s8", QuantFormat.QDQ, QuantType.QInt8))
                # tract has none of onnxruntime's own operators
                if source == old and name != "mixed32":
                    forms.append(("qoperator", QuantFormat.QOperator, QuantType.QUInt8))
                for form, quant_format, activations in forms:
                    quantize_static(
                        prepared, str(source.with_suffix("")) + f".{form}.onnx", Reader(inputs[0], shape),
                        quant_format=quant_format, activation_type=activations, weight_type=QuantType.QInt8,
                        per_channel=True,
                    )
    files = sorted(HERE.glob("*.onnx"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files)} bytes")


main()
