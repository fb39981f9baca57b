#!/usr/bin/env bash
# arm-counts.sh EDGEGEN MODEL...: instructions of one frame of each model (file or folder) in int8 and fp32 on emulated
# Cortex-A76, A72 and A53, by an aarch64 build of edgegen: the difference of 101 runs and of 1, divided by 100. Counts are not
# cycles. Needs qemu-aarch64 with the insn plugin as COUNT (a command that prints "total insns: N") [count-aarch64].
set -euo pipefail
program=$1
shift
count() { # CPU, model, precision, runs
    QEMU_CPU=$1 "${COUNT:-count-aarch64}" "$program" bench "$2" --precision "$3" --runs "$4" --seconds 600 --json 2>&1 |
        sed -n 's/.*total insns: \([0-9]*\).*/\1/p' | tail -1
}
printf '%-28s %-6s %-12s %16s %16s\n' model number core start-up 'a frame'
for model in "$@"; do
    for precision in int8 fp32; do
        for core in cortex-a76 cortex-a72 cortex-a53; do
            one=$(count $core "$model" $precision 1)
            many=$(count $core "$model" $precision 101)
            printf '%-28s %-6s %-12s %16d %16d\n' "$(basename "$model")" $precision $core "$one" $(((many - one) / 100))
        done
    done
done
