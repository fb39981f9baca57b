"""make.py [--large FOLDER] [NETWORK...]: makes the files of this folder: small networks as PyTorch's two exporters write them, and as
onnxruntime.quantization quantises them and onnxconverter-common halves them. Needs torch, onnxscript, onnx, onnxruntime and
onnxconverter-common (versions are printed); the product and its tests do not. Weights are random: what counts is the form. --large: networks of the sizes that are used, for
benches/compare.py, in float32 and int8 (QDQ)."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxconverter_common import float16
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


class UNet(nn.Module):
    """pix2pix's generator, smaller: instance norms, skips."""

    def __init__(self, c=6):
        super().__init__()

        def down(inputs, outputs, norm=True):
            norms = [nn.InstanceNorm2d(outputs, affine=True)] if norm else []
            return nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 4, 2, 1), *norms)

        def raised(inputs, outputs):
            return nn.Sequential(nn.ReLU(), up(inputs, outputs, 4, 2, 1), nn.InstanceNorm2d(outputs, affine=True))

        self.first = nn.Conv2d(3, c, 4, 2, 1)
        self.down = nn.ModuleList([down(c, 2 * c), down(2 * c, 4 * c), down(4 * c, 4 * c, False)])
        self.up = nn.ModuleList([raised(4 * c, 4 * c), raised(8 * c, 2 * c), raised(4 * c, c)])
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * c, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        seen = [self.first(x)]
        for step in self.down:
            seen.append(step(seen[-1]))
        x = seen.pop()
        for step in self.up:
            x = torch.cat([step(x), seen.pop()], 1)
        return self.last(x)


class ReflectedResidual(nn.Module):
    def __init__(self, channels):
        super().__init__()

        def conv():
            return [
                nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
            ]

        self.body = nn.Sequential(*conv(), nn.ReLU(), *conv())

    def forward(self, x):
        return x + self.body(x)


class Compact(nn.Module):
    """Real-ESRGAN's compact network, smaller: PReLU, pixel shuffle, and the enlarged picture added."""

    def __init__(self, c=12):
        super().__init__()
        body = [nn.Conv2d(3, c, 3, padding=1), nn.PReLU(c)]
        for _ in range(3):
            body += [nn.Conv2d(c, c, 3, padding=1), nn.PReLU(c)]
        self.body = nn.Sequential(*body, nn.Conv2d(c, 3 * 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        return self.body(x) + nn.functional.interpolate(x, scale_factor=2, mode="nearest")


class Inverted(nn.Module):
    """MobileNetV2's block: wider, depthwise, narrow again, and added."""

    def __init__(self, inputs, outputs, wider=4):
        super().__init__()
        hidden = wider * inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.added = inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.added else self.body(x)


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
        "pix2pix32": (UNet(), (3, 32, 32)),
        # CycleGAN's generator, smaller: reflection padding
        "cyclegan16": (nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, 6, 7), nn.InstanceNorm2d(6), relu(),
            nn.Conv2d(6, 12, 3, 2, 1), nn.InstanceNorm2d(12), relu(), ReflectedResidual(12),
            nn.ConvTranspose2d(12, 6, 3, 2, 1, 1), nn.InstanceNorm2d(6), relu(),
            nn.ReflectionPad2d(3), nn.Conv2d(6, 3, 7), nn.Tanh(),
        ), (3, 16, 16)),
        "espcn16": (nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 9, 3, padding=1), nn.Tanh(),
            nn.Conv2d(9, 9, 3, padding=1), nn.PixelShuffle(3), nn.Sigmoid(),
        ), (1, 16, 16)),
        "fsrcnn16": (nn.Sequential(
            nn.Conv2d(1, 20, 5, padding=2), nn.PReLU(20), nn.Conv2d(20, 7, 1), nn.PReLU(7),
            nn.Conv2d(7, 7, 3, padding=1), nn.PReLU(7), nn.Conv2d(7, 20, 1), nn.PReLU(20),
            nn.ConvTranspose2d(20, 1, 9, 2, 4, 1),
        ), (1, 16, 16)),
        "compact16": (Compact(), (3, 16, 16)),
        # depthwise convolutions between enlargements, 32 × 32
        "mobile32": (nn.Sequential(
            nn.Linear(10, 12 * 8 * 8), View(12, 8, 8), Inverted(12, 12), nn.Upsample(scale_factor=2, mode="nearest"),
            Inverted(12, 10), nn.Hardswish(), nn.Upsample(scale_factor=2, mode="nearest"), Inverted(10, 10, 2),
            nn.Conv2d(10, 3, 1), nn.Sigmoid(),
        ), (10,)),
        # MLPerf Tiny's autoencoder for anomalies, narrower
        "anomaly64": (nn.Sequential(
            *[layer for a, b in [(64, 24), (24, 24), (24, 8), (8, 24), (24, 24)]
              for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), relu())], nn.Linear(24, 64),
        ), (64,)),
    }


def large_networks():
    """As they are published, or used on small boards."""
    relu = nn.ReLU

    def prelu(inputs, outputs, kernel):
        return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.PReLU(outputs)]

    return {
        "mixed32": networks()["mixed32"],
        "pix2pix128": (UNet(16), (3, 128, 128)),
        "espcn80x60": (nn.Sequential(
            nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh(),
            nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3), nn.Sigmoid(),
        ), (1, 60, 80)),
        "fsrcnn80x60": (nn.Sequential(
            *prelu(1, 56, 5), *prelu(56, 12, 1), *prelu(12, 12, 3), *prelu(12, 12, 3), *prelu(12, 12, 3), *prelu(12, 12, 3),
            *prelu(12, 56, 1), nn.ConvTranspose2d(56, 1, 9, 2, 4, 1),
        ), (1, 60, 80)),
        "compact48": (Compact(24), (3, 48, 48)),
        "mobile64": (nn.Sequential(
            nn.Linear(64, 64 * 8 * 8), View(64, 8, 8), Inverted(64, 64), nn.Upsample(scale_factor=2, mode="nearest"),
            Inverted(64, 32), Inverted(32, 32), nn.Upsample(scale_factor=2, mode="nearest"), Inverted(32, 24),
            Inverted(24, 24), nn.Upsample(scale_factor=2, mode="nearest"), Inverted(24, 16), nn.Conv2d(16, 3, 1), nn.Sigmoid(),
        ), (64,)),
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
    large = chosen[:1] == ["--large"]
    folder_made = Path(chosen[1]) if large else HERE
    chosen = chosen[2:] if large else chosen
    for name, (network, shape) in (large_networks() if large else networks()).items():
        if chosen and name not in chosen:
            continue
        torch.manual_seed(len(name))
        for module in network.modules():
            if hasattr(module, "weight") and module.weight is not None and module.weight.dim() > 1:
                nn.init.normal_(module.weight, 0, (2.0 / module.weight[0].numel()) ** 0.5)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        network.eval()
        example = torch.randn(2, *shape)
        outputs = ["mean", "log_variance"] if isinstance(network, Encoder) else ["made"]
        inputs = ["image" if len(shape) == 3 and shape[1] > 1 else "latent"]
        old, dynamo = folder_made / f"{name}.old.onnx", folder_made / f"{name}.dynamo.onnx"
        torch.onnx.export(
            network, (example,), str(old), dynamo=False, opset_version=13, input_names=inputs, output_names=outputs,
            dynamic_axes={port: {0: "N"} for port in inputs + outputs},
        )
        if large:
            prepared = str(folder_made / "prepared.onnx")
            quant_pre_process(str(old), prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared, str(folder_made / f"{name}.qdq.onnx"), Reader(inputs[0], shape), quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            )
            os.remove(prepared)
            continue
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
                if source == old:
                    forms.append(("qoperator", QuantFormat.QOperator, QuantType.QUInt8))
                for form, quant_format, activations in forms:
                    quantize_static(
                        prepared, str(source.with_suffix("")) + f".{form}.onnx", Reader(inputs[0], shape),
                        quant_format=quant_format, activation_type=activations, weight_type=QuantType.QInt8,
                        per_channel=True,
                    )
            # onnxconverter-common's float16: float32 outside, and float16 outside too
            for form, outside in [("f16", True), ("f16-io", False)]:
                half = float16.convert_float_to_float16(onnx.load(old), keep_io_types=outside)
                onnx.save(half, str(old.with_suffix("")) + f".{form}.onnx")
    files = sorted(folder_made.glob("*.onnx"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files)} bytes")


main()
