"""quantize.py INPUTS FP32.onnx [INT8.onnx ...]: onnxruntime's static quantiser beside edgegen's, on the same float32
file, calibration inputs and held-out inputs.

INPUTS is what `edgegen-train quantize FILE.onnx --precision fp32 --inputs INPUTS --out FP32.onnx` wrote, FP32.onnx the
float32 file in the form whose nodes are quantised, INT8.onnx files of edgegen's. Prints one JSON object: for each
calibrator of onnxruntime, and for each file, the PSNR of every output (peak 1 or 2; mean and worst row) and its
signal-to-quantisation-noise ratio.

onnxruntime's files: uint8 activations, int8 weights, per channel, in QDQ form, the same nodes (Conv, Gemm). Everything
is run without graph optimisations, so that integers are simulated exactly: onnxruntime's own kernels saturate on CPUs
that have AVX2 and no VNNI."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

BATCH = 64


class Reader(CalibrationDataReader):
    def __init__(self, feed):
        self.feed, self.next = feed, 0

    def get_next(self):
        first = self.next
        self.next += BATCH
        piece = {name: values[first : first + BATCH] for name, values in self.feed.items()}
        return piece if len(next(iter(piece.values()))) else None


def inputs(folder, name, session):
    rows = np.load(folder / f"{name}.npy")
    feed = {session.get_inputs()[0].name: rows}
    if len(session.get_inputs()) > 1:
        feed[session.get_inputs()[1].name] = np.load(folder / f"{name}-classes.npy").astype(np.int64)
    return feed


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def exact_session_of(path):
    """Integers as they are, also on AVX2."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session, feed):
    pieces = []
    count = len(next(iter(feed.values())))
    for first in range(0, count, BATCH):
        pieces.append(session.run(None, {name: values[first : first + BATCH] for name, values in feed.items()}))
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*pieces)]


def quality(session, exact, found):
    report = {}
    for output, a, b in zip(session.get_outputs(), exact, found):
        peak = 2.0 if a.min() < 0 else 1.0
        error = ((a - b) ** 2).reshape(len(a), -1).mean(axis=1)
        ratios = 10 * np.log10(peak**2 / np.maximum(error, 1e-20))
        report[output.name] = {
            "psnr_mean": ratios.mean(),
            "psnr_worst": ratios.min(),
            "sqnr": 10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-20)),
        }
    return report


folder, fp32, *ours = (Path(argument) for argument in sys.argv[1:])
session = session_of(fp32)
calibration, held_out = inputs(folder, "calibration", session), inputs(folder, "held-out", session)
exact = run(session, held_out)
report = {"file": fp32.name, "fp32_bytes": fp32.stat().st_size, "held_out": len(exact[0])}
report["onnxruntime"] = {}
with tempfile.TemporaryDirectory() as temporary:
    prepared = Path(temporary) / "prepared.onnx"
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile, CalibrationMethod.Entropy):
        quantised = Path(temporary) / f"{method.name}.onnx"
        quantize_static(
            str(prepared),
            str(quantised),
            Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            reduce_range=False,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
        entry = quality(session, exact, run(session_of(quantised), held_out))
        entry["bytes"] = quantised.stat().st_size
        report["onnxruntime"][method.name.lower()] = entry
report["edgegen"] = {}
for path in ours:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    entry = quality(session, exact, run(exact_session_of(path), held_out))
    entry["bytes"] = path.stat().st_size
    report["edgegen"][path.name] = entry
print(json.dumps(report, indent=1))
