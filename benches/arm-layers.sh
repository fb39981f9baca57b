#!/usr/bin/env bash
# arm-layers.sh EDGEGEN: instructions of a depthwise layer and of a residual sum on emulated Cortex-A76, A72 and A53, by an aarch64
# build of edgegen. COUNT and what is counted as in arm-counts.sh; the files come from arm_layers.py, by the oracles' environment
# (tests/python/setup.sh torch). onnxruntime's counts differ from run to run by more than such a layer.
set -euo pipefail
program=$1
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$here/../.venv/bin/python" "$here/arm_layers.py" "$folder" 2>/dev/null
total() { sed -n 's/.*total insns: \([0-9]*\).*/\1/p' | tail -1; }
runs() { # CPU, file, runs
    QEMU_CPU=$1 "${COUNT:-count-aarch64}" "$program" bench "$2" --runs "$3" --seconds 600 --json 2>&1 | total
}
own() { echo $((($(runs "$1" "$2" 101) - $(runs "$1" "$2" 1)) / 100)); }
printf '%-10s %-6s %-12s %12s\n' layer number core instructions
for layer in depthwise residual; do
    for precision in int8 fp32; do
        one=$folder/${layer}1.$precision.onnx three=$folder/${layer}3.$precision.onnx
        for core in cortex-a76 cortex-a72 cortex-a53; do
            printf '%-10s %-6s %-12s %12d\n' $layer $precision $core $((($(own $core "$three") - $(own $core "$one")) / 2))
        done
    done
done
