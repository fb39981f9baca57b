"""arm_onnxruntime.py FILE RUNS: runs an ONNX file RUNS times in onnxruntime, one thread, batch 1, for arm-counts.sh."""

import sys

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {}
for port in session.get_inputs():
    shape = [size if isinstance(size, int) else 1 for size in port.shape]
    # the second input tells the class
    noise = np.random.default_rng(1).standard_normal(shape)
    feed[port.name] = noise.astype(np.float32) if port.type == "tensor(float)" else np.zeros(shape, np.int64)
for _ in range(int(sys.argv[2])):
    session.run(None, feed)
