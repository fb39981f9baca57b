#!/usr/bin/env bash
# quantisation.sh DATA [MODEL ...]: what each choice of the quantiser is worth, and onnxruntime's quantiser on the same
# float32 file, for every network of the model folders that has one [default: those in models/]. DATA is MNIST, for
# encoders. Prints one line a trial. Needs a release build, and a Python made by tests/python/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1
shift
models=("$@")
[ ${#models[@]} -gt 0 ] || models=(models/*)
target=${CARGO_TARGET_DIR:-target}/release
python=${EDGEGEN_PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

trial() { # what, source, options
    local what=$1 source=$2
    shift 2
    "$target/edgegen-train" quantize "$source" --out "$work/trial.onnx" --force --least-quality 0 --data "$data" "$@" |
        grep 'against fp32' | sed "s|^|$what: |"
}

for model in "${models[@]}"; do
    [ -d "$model" ] || continue
    for source in "$model"/{encoder,decoder,generator}.fp32.onnx; do
        [ -f "$source" ] || continue
        echo "== $source"
        trial "default" "$source"
        for calibrator in minmax percentile entropy; do trial "--calibrator $calibrator" "$source" --calibrator $calibrator; done
        trial "--rounding nearest" "$source" --rounding nearest
        trial "--rounding nearest --no-bias-correction" "$source" --rounding nearest --no-bias-correction
        trial "--no-equalize" "$source" --no-equalize
        trial "--per-tensor" "$source" --per-tensor
        trial "none of them, minmax" "$source" --rounding nearest --no-bias-correction --no-equalize --calibrator minmax
        trial "--qat 1000" "$source" --qat 1000
        "$target/edgegen-train" quantize "$source" --precision fp32 --inputs "$work/inputs" --out "$work/fp32.onnx" \
            --force --data "$data" > /dev/null
        "$target/edgegen-train" quantize "$source" --out "$work/int8.onnx" --force --least-quality 0 --data "$data" > /dev/null
        "$target/edgegen-train" quantize "$source" --out "$work/qdq.onnx" --format qdq --force --least-quality 0 \
            --data "$data" > /dev/null
        "$python" benches/onnxruntime/quantize.py "$work/inputs" "$work/fp32.onnx" "$work/int8.onnx" "$work/qdq.onnx" 2> /dev/null |
            sed -n '/^{/,$p'
    done
done
