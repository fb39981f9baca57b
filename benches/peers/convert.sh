#!/usr/bin/env bash
# Converts edgegen's float32 files to the formats of LiteRT (float32 and int8) and ncnn (float32) for benches/compare.py:
#     bash benches/peers/convert.sh OUT MODEL.fp32.onnx…
# makes OUT/venv with TensorFlow and pnnx (some GB), OUT/FOLDER.NAME.{fp32,int8}.tflite and OUT/FOLDER.NAME.ncnn.{param,bin}.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
mkdir -p "$out"
[ -x "$out/venv/bin/pnnx" ] || { python3 -m venv "$out/venv" && "$out/venv/bin/pip" install --quiet tensorflow-cpu pnnx onnx onnxruntime; }
for model in "$@"; do
    name=$(basename "$(dirname "$(realpath "$model")")").$(basename "$model" .fp32.onnx)
    TF_CPP_MIN_LOG_LEVEL=3 "$out/venv/bin/python" "$here/litert.py" "$model" "$out/$name" 2>/dev/null || echo "$name: not for LiteRT"
    shape=$("$out/venv/bin/python" -c "
import onnx, sys
print('x'.join(['1'] + [str(dim.dim_value) for dim in onnx.load(sys.argv[1]).graph.input[0].type.tensor_type.shape.dim][1:]))" "$model")
    work=$(mktemp -d)
    cp "$model" "$work/model.onnx"
    (cd "$work" && "$out/venv/bin/pnnx" model.onnx "inputshape=[${shape//x/,}]" >/dev/null 2>&1) || true
    for half in param bin; do
        mv "$work/model.ncnn.$half" "$out/$name.ncnn.$half" 2>/dev/null || echo "$name: not for ncnn"
    done
    rm -r "$work"
done
