#!/usr/bin/env bash
# Kernels and shipped models on emulated Raspberry Pi cores (A53: Pi 3, Zero 2 W; A72: Pi 4; A76: Pi 5). A kernel that runs an
# instruction its core lacks dies here of it. ENV is a file that sets the aarch64 toolchain and a runner for qemu-user:
#     bash tests/emulator.sh ENV
# that is CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER and …_RUNNER, and RUSTC where rustup has no aarch64 target.
set -euo pipefail
shopt -s inherit_errexit # what fails in $(…) fails here
env=$(realpath "$1")
cd "$(dirname "$0")/.."
host_target=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR="$host_target"
# with the whole workspace: the same build as the README's test command
cargo build --release --workspace --bin edgegen
export CARGO_TARGET_DIR="$host_target-aarch64"
target=aarch64-unknown-linux-gnu
runner=$(
    set +u
    . "$env"
    set -u
    for core in cortex-a53 cortex-a72 cortex-a76; do
        echo "== kernels on $core"
        QEMU_CPU=$core cargo test --release --target $target -p edgegen-kernels --features std
    done >&2
    cargo build --release --target $target -p edgegen-runtime --no-default-features --features program
    echo "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
)
export EDGEGEN_ARM_PROGRAM="$CARGO_TARGET_DIR/$target/release/edgegen" EDGEGEN_ARM_RUNNER="$runner"
export CARGO_TARGET_DIR="$host_target" EDGEGEN_HOST_PROGRAM="$host_target/release/edgegen"
cargo test --release --workspace --test emulator -- --nocapture
