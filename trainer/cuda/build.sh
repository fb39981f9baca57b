#!/usr/bin/env bash
# Builds edgegen-train with CUDA where no CUDA toolkit is installed: the compiler and libraries come from PyPI into a
# folder of their own. The program runs where there is an NVIDIA driver; it needs CUDA 13's cuBLAS, cuRAND and NVRTC on
# LD_LIBRARY_PATH (this script's folder, or a PyTorch wheel's nvidia/cu13/lib).
#
#   bash trainer/cuda/build.sh [FOLDER]        FOLDER: where the toolkit goes; default ~/.cache/edgegen-cuda
#
# CUDA_COMPUTE_CAP is the GPU's compute capability without the dot (90: H100, 89: RTX 40, 86: RTX 30, 75: RTX 20).
set -euo pipefail
cd "$(dirname "$0")/../.."
toolkit=${1:-$HOME/.cache/edgegen-cuda}
if [ ! -x "$toolkit/bin/python" ]; then
    python3 -m venv "$toolkit"
fi
"$toolkit/bin/pip" install --quiet --disable-pip-version-check 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-runtime==13.0.*' \
    'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.0.*' nvidia-curand \
    'nvidia-cuda-nvrtc==13.0.*'
cuda=$(echo "$toolkit"/lib/python3*/site-packages/nvidia/cu13)
# names that the linker looks for
mkdir -p "$toolkit/stubs"
for library in cublas cublasLt cudart nvrtc; do
    ln -sf "$cuda/lib/lib$library.so.13" "$toolkit/stubs/lib$library.so"
done
ln -sf "$cuda/lib/libcurand.so.10" "$toolkit/stubs/libcurand.so"
echo | gcc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$toolkit/stubs/libcuda.so"

export PATH=$cuda/bin:$PATH CUDA_HOME=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda CUDA_TOOLKIT_ROOT_DIR=$cuda NVCC_CCBIN=gcc
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
# Without relro, functions of the driver are looked up when they are called: a machine without a driver gets a message
# from the program instead of one from the loader. That changes every crate's code, so they have a folder of their own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}-cuda RUSTFLAGS="${RUSTFLAGS:-} -C relro-level=off"
cargo rustc --release -p edgegen-trainer --bin edgegen-train --features cuda -- -L "$toolkit/stubs" \
    -C link-arg=-Wl,--unresolved-symbols=ignore-all -C link-arg=-Wl,--allow-shlib-undefined -C link-arg=-Wl,-z,lazy
echo "built $CARGO_TARGET_DIR/release/edgegen-train; run it with LD_LIBRARY_PATH=$cuda/lib"
