#!/usr/bin/env bash
# Makes .venv with the peers that tests and benches compare against. The product never needs it.
#
#   bash tests/python/setup.sh [torch]        torch: PyTorch too, 5 GB, for the tests of gradients and the benches
set -euo pipefail
cd "$(dirname "$0")/../.."
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
.venv/bin/python -c "import onnx, onnxruntime; print('onnx', onnx.__version__, 'onnxruntime', onnxruntime.__version__)"
if [ "${1:-}" = torch ]; then
    .venv/bin/pip install --quiet --disable-pip-version-check -r tests/python/requirements-torch.txt
    .venv/bin/python -c "import torch; print('torch', torch.__version__)"
fi
