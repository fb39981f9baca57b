#!/usr/bin/env bash
# How far kernels and tract are apart on an emulated Raspberry Pi core: each runs whole networks alone, of the model folders
# that are given, or else of models/. ENV is the one of tests/emulator.sh; its build with tract takes some 16 CPU-minutes and is kept.
#     bash benches/engines.sh ENV [FOLDER…]
# Prints a Markdown table: model, part, precision, the largest difference between the engines' values on 3 inputs.
set -euo pipefail
env=$(realpath "$1")
shift
folders=()
for folder in "$@"; do folders+=("$(realpath "$folder")"); done
cd "$(dirname "$0")/.."
[ ${#folders[@]} -gt 0 ] || folders=("$PWD"/models/*/)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}-aarch64-tract"
target=aarch64-unknown-linux-gnu
set +u
. "$env"
set -u
export EDGEGEN_ENGINES_FOLDERS="${folders[*]}"
cargo test --release --target $target -p edgegen-runtime --no-default-features --features tract --test engines -- --nocapture
