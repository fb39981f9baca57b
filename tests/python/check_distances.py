"""check_distances.py FEATURES.onnx SAMPLES.npy PICTURES.npy REPORT.json: the report's figures again, from the
pictures (uint8, N x H x W, of the network's size, scaled to [0, 1]) on, by other means: features by onnxruntime,
the Frechet distance by scipy's matrix square root (or, without scipy, by the eigenvalues of the product, which is not
symmetric), kernel distance, precision, recall, density and coverage from their definitions. Prints the differences."""

import json
import sys

import numpy as np
import onnxruntime

network, samples_path, pictures_path, report_path = sys.argv[1:]
report = json.load(open(report_path))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def features(path):
    pictures = np.load(path).astype(np.float32)[:, None] / np.float32(255)
    return session.run([report["features"]["output"]], {session.get_inputs()[0].name: pictures})[0].astype(np.float64)


x, y = features(samples_path), features(pictures_path)
assert len(x) == report["samples"]["count"] and len(y) == report["reference"]["count"]
assert x.shape[1] == report["features"]["dimension"]

a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
try:
    from scipy.linalg import sqrtm

    common = np.trace(sqrtm(a @ b)).real
except ImportError:
    common = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
frechet = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * common

# both sides are as large as a subset: every subset is the whole set
n = len(x)
assert n == len(y) == report["kernel"]["subset_size"]
kernel = lambda p, q: (p @ q.T / p.shape[1] + 1) ** 3
apart = lambda k: (k.sum() - np.trace(k)) / (n * (n - 1))
mmd = apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * kernel(x, y).mean()

distance = lambda p, q: np.sqrt(((p[:, None] - q[None]) ** 2).sum(2))
radius = lambda p, k: np.sort(distance(p, p), axis=1)[:, k]
cross = distance(x, y)
in_reference = cross <= radius(y, 3)[None]
in_samples = cross <= radius(x, 3)[:, None]
in_large = cross <= radius(y, 5)[None]
ours, manifolds = report["frechet"], report["manifolds"]
print(json.dumps({
    "frechet": frechet,
    "frechet_difference": abs(ours - frechet) / frechet,
    "kernel_difference": abs(report["kernel"]["mean"] - mmd) / abs(mmd),
    "kernel_deviation": report["kernel"]["deviation"] / abs(mmd),
    "precision": abs(manifolds["precision"] - in_reference.any(1).mean()),
    "recall": abs(manifolds["recall"] - in_samples.any(0).mean()),
    "density": abs(manifolds["density"] - in_large.sum() / (5 * n)),
    "coverage": abs(manifolds["coverage"] - in_large.any(0).mean()),
}))
