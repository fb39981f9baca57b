"""check_parity.py [--as-written] MODEL.onnx INPUT.npy [OUTPUT.npy …] [CLASS,CLASS,…]: onnx.checker with full check, then the
largest difference between onnxruntime's outputs and the given ones, and their signal-to-noise ratio in dB, in the
graph's output order. Classes, int64, are for a second input. --as-written: without onnxruntime's optimisations, which
round otherwise where values are multiplied between DequantizeLinear and QuantizeLinear."""

import json
import sys

import numpy as np
import onnx
import onnxruntime

as_written = sys.argv[1] == "--as-written"
model_path, input_path, *output_paths = sys.argv[1 + as_written :]
classes = [output_paths.pop()] if output_paths and not output_paths[-1].endswith(".npy") else []
model = onnx.load(model_path)
onnx.checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
if as_written:
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
# integers as they are: by default uint8 × int8 saturates on CPUs that have AVX2 and no VNNI
options.add_session_config_entry("session.x64quantprecision", "1")
# float weights between quantised neighbours would be quantised too, which the file does not ask for
arguments = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": ["WeightBiasQuantization"]}
try:
    session = onnxruntime.InferenceSession(model_path, options, **arguments)
except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
    # its optimisations fail on some files of its own quantiser
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model_path, options, **arguments)
values = np.load(input_path)
if session.get_inputs()[0].type == "tensor(float16)":
    values = values.astype(np.float16)
told = [np.array(text.split(","), np.int64) for text in classes]
found = session.run(None, dict(zip([entry.name for entry in session.get_inputs()], [values, *told], strict=True)))
differences, ratios = [], []
for path, ours in zip(output_paths, found, strict=True):
    theirs = np.load(path)
    assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
    error = theirs.astype(np.float64) - ours
    differences.append(float(np.abs(error).max()))
    ratios.append(float(10 * np.log10((ours.astype(np.float64) ** 2).sum() / max((error**2).sum(), 1e-20))))
opset = next(entry.version for entry in model.opset_import if entry.domain == "")
print(json.dumps({
    "differences": differences,
    "sqnr": ratios,
    "opset": opset,
    "ir_version": model.ir_version,
    "producer": model.producer_name,
    "metadata": {entry.key: entry.value for entry in model.metadata_props},
    "raw": all(len(t.raw_data) > 0 for t in model.graph.initializer),
    "batch": [value.type.tensor_type.shape.dim[0].dim_param for value in [*model.graph.input, *model.graph.output]],
}))
