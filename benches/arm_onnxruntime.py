"""arm_onnxruntime.py FILE RUNS: runs an ONNX file RUNS times in onnxruntime, one thread, batch 1, for arm-counts.sh."""

import sys

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
row = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
for _ in range(int(sys.argv[2])):
    session.run(None, {session.get_inputs()[0].name: row})
