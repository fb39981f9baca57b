#!/usr/bin/env bash
# build.sh [ENV]: the Debian package for 64-bit Raspberry Pis, edgegen_*_arm64.deb, in the target folder's debian/.
# Needs cargo-deb (`cargo install cargo-deb`), and cargo-zigbuild for programs that run from glibc 2.31 on
# (`pip install cargo-zigbuild`, which brings zig). ENV is a file that sets RUSTC, where rustup has no aarch64 target.
set -euo pipefail
env=${1:+$(realpath "$1")}
cd "$(dirname "$0")/../.."
glibc=2.31 target=aarch64-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR="$folder"

lean=(--no-default-features --features edgegen-runtime/program,edgegen-firmware-sim/panel)
programs=(-p edgegen-runtime -p edgegen-firmware-sim --bin edgegen --bin edgegen-panel)
# man pages and completions come out of the programs, built for this machine
cargo build "${programs[@]}" "${lean[@]}" --features edgegen-runtime/manual,edgegen-firmware-sim/manual
manual=$folder/$target/dist/manual
rm -rf "$manual"
"$folder/debug/edgegen" manual "$manual"
"$folder/debug/edgegen-panel" --manual "$manual"
gzip -9n "$manual/man1/"*.1

(
    if [ -n "$env" ]; then
        set +u
        . "$env"
        set -u
        # zig is the linker
        unset CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER CC_aarch64_unknown_linux_gnu AR_aarch64_unknown_linux_gnu
        export CARGO_TARGET_DIR="$folder"
    fi
    cargo zigbuild --target "$target.$glibc" --profile dist "${programs[@]}" "${lean[@]}"
)
bash firmware-sim/debian/glibc.sh "$glibc" "$folder/$target/dist/"{edgegen,edgegen-panel}
rm -f "$folder/$target/debian/"edgegen_*_arm64.deb
cargo deb -p edgegen-firmware-sim --target "$target" --profile dist --no-build --no-strip
ls -l "$folder/$target/debian/"edgegen_*_arm64.deb
