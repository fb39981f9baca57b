"""What onnxruntime makes of a grey picture of any size, against what edgegen made.

    transform.py FILE.onnx GIVEN.npy MADE.npy
"""

import sys

import numpy as np
import onnx
import onnxruntime

file, given, values = sys.argv[1:]
onnx.checker.check_model(file, full_check=True)
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
(entry,) = session.get_inputs()
assert entry.shape[1:] == [1, "H", "W"], entry.shape
(made,) = session.run(None, {entry.name: np.load(given)})
ours = np.load(values)
assert made.shape == ours.shape, (made.shape, ours.shape)
apart = np.abs(made - ours)
# of integers: one level in a few places
if "int8" in file:
    assert apart.max() < 2.1 / 255 and (apart > 0.5 / 255).mean() < 0.01, (apart.max(), (apart > 0.5 / 255).mean())
else:
    assert apart.max() < 2e-3 if "fp16" in file else apart.max() < 2e-5, apart.max()
