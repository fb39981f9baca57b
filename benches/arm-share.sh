#!/usr/bin/env bash
# arm-share.sh BENCH MODEL...: instructions that a picture of a model takes to be made, and to be painted on 240x240 in three ways, on emulated
# Cortex-A53 and A76: the difference of 12 runs and of 2, divided by 10. Counts are not cycles. BENCH is an aarch64 build of firmware-sim's bench
# "share" (cargo build --release --target aarch64-unknown-linux-gnu -p edgegen-firmware-sim --bench share); needs qemu-aarch64 with the insn
# plugin as COUNT (a command that prints "total insns: N") [count-aarch64].
set -euo pipefail
bench=$1
shift
count() { # core, model, what, runs
    QEMU_CPU=$1 "${COUNT:-count-aarch64}" "$bench" count "$2" "$3" "$4" 2>&1 | sed -n 's/.*total insns: \([0-9]*\).*/\1/p' | tail -1
}
a_run() { echo $((($(count "$1" "$2" "$3" 12) - $(count "$1" "$2" "$3" 2)) / 10)); }
printf '%-16s %-12s %12s %22s %22s %22s\n' model core made fill pixels smooth
for model in "$@"; do
    for core in cortex-a53 cortex-a76; do
        made=$(a_run $core "$model" make)
        printf '%-16s %-12s %12d' "$model" $core "$made"
        for how in fill pixels smooth; do
            painted=$(a_run $core "$model" $how)
            printf ' %12d (%5.1f %%)' "$painted" "$(awk "BEGIN { print 100 * $painted / $made }")"
        done
        echo
    done
done
