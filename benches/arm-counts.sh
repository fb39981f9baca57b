#!/usr/bin/env bash
# arm-counts.sh EDGEGEN FOLDER[@SHAPE]...: instructions of one frame of each model folder's decoder or generator in int8 and fp32 on
# emulated Cortex-A76, A72 and A53, by an aarch64 build of edgegen: the difference of 101 runs and of 1, divided by 100. Counts
# are not cycles. With a shape, N,1,240,320, the pictures of a network of any size, the difference of 4 runs and of 1. onnxruntime starts in threads, whose count differs from run to run: 510 runs and 10. Needs qemu-aarch64 with the insn plugin as COUNT (a command that prints "total insns: N") [count-aarch64], and
# for onnxruntime's counts PEER: a command that runs an aarch64 Python with onnxruntime and prints the same.
set -euo pipefail
program=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
total() { sed -n 's/.*total insns: \([0-9]*\).*/\1/p' | tail -1; }
count() { # CPU, folder, precision, runs
    QEMU_CPU=$1 "${COUNT:-count-aarch64}" "$program" bench "$2" --precision "$3" --runs "$4" --seconds 600 --json $shape 2>&1 | total
}
peer() { # CPU, file, runs
    QEMU_CPU=$1 $PEER "$here/arm_onnxruntime.py" "$2" "$3" 2>&1 | total
}
printf '%-28s %-6s %-12s %14s %14s %14s %6s\n' model number core start-up 'a frame' onnxruntime ratio
for model in "$@"; do
    shape='' more=100
    case $model in *@*) shape="--shape ${model#*@}" more=3 ;; esac
    named=$(basename "${model%@*}")${shape#--shape}
    model=${model%@*}
    for precision in int8 fp32; do
        file=$(ls "$model"/{decoder,generator}."$precision".onnx 2>/dev/null | head -1 || true)
        for core in cortex-a76 cortex-a72 cortex-a53; do
            one=$(count $core "$model" $precision 1)
            many=$(count $core "$model" $precision $((more + 1)))
            frame=$(((many - one) / more)) theirs='' ratio=''
            if [ -n "${PEER:-}" ]; then
                theirs=$((($(peer $core "$file" 510) - $(peer $core "$file" 10)) / 500))
                ratio=$(awk "BEGIN { printf \"%.3f\", $frame / $theirs }")
            fi
            printf '%-28s %-6s %-12s %14d %14d %14s %6s\n' "$named" $precision $core "$one" $frame "$theirs" "$ratio"
        done
    done
done
