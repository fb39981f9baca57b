#!/usr/bin/env python3
"""Latency of a model in edgegen and in onnxruntime, interleaved: the two take turns for a number of
rounds, and the ratio is that of the medians over rounds.

    bash tests/python/setup.sh
    cargo build --release -p edgegen-runtime
    .venv/bin/python benches/compare.py models/mnist-vae/decoder.fp32.onnx [--rounds 15] [--out F.json]

One thread, batch 1. onnxruntime runs with spinning off, all graph optimisations, and its input and
output bound once."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time

import numpy as np
import onnxruntime

RUNS_PER_ROUND = 300
WARM_UP = 50


def edgegen_round(program, model):
    """Median microseconds of one process of `edgegen bench`, and its whole report."""
    command = [program, "bench", model, "--json", "--runs", str(RUNS_PER_ROUND)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["p50_us"], report


def onnxruntime_session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(7)
    binding = session.io_binding()
    for argument in session.get_inputs():
        shape = [1 if not isinstance(size, int) else size for size in argument.shape]
        if argument.type == "tensor(int64)":  # the class
            binding.bind_cpu_input(argument.name, np.zeros(shape, np.int64))
        else:
            binding.bind_cpu_input(argument.name, random.standard_normal(shape).astype(np.float32))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return session, binding


def onnxruntime_round(session, binding):
    times = []
    for run in range(WARM_UP + RUNS_PER_ROUND):
        start = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        if run >= WARM_UP:
            times.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(times)


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    flags = next((line.split(":")[1].split() for line in open("/proc/cpuinfo") if line.startswith("flags")), [])
    wide = [flag for flag in ("avx2", "avx_vnni", "avx512f", "avx512_vnni") if flag in flags]
    return {"cpu": model, "features": wide, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--program", help="edgegen; without it: the release build")
    parser.add_argument("--out", help="raw results")
    arguments = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    program = arguments.program or str(target / "release/edgegen")

    results = []
    print(f"{'model':<44} {'edgegen':>10} {'onnxruntime':>12} {'ratio':>7}   (µs, median of {arguments.rounds} rounds)")
    for model in arguments.models:
        session, binding = onnxruntime_session(model)
        rounds = []
        for _ in range(arguments.rounds):
            ours, report = edgegen_round(program, model)
            rounds.append({"edgegen_us": ours, "onnxruntime_us": onnxruntime_round(session, binding)})
        ours = statistics.median(r["edgegen_us"] for r in rounds)
        theirs = statistics.median(r["onnxruntime_us"] for r in rounds)
        print(f"{model:<44} {ours:>10.1f} {theirs:>12.1f} {ours / theirs:>7.2f}")
        results.append({
            "model": model, "edgegen_us": ours, "onnxruntime_us": theirs, "ratio": ours / theirs,
            "rounds": rounds, "last_report": report,
        })
    if arguments.out:
        raw = {
            "machine": machine(), "onnxruntime": onnxruntime.__version__, "runs_per_round": RUNS_PER_ROUND,
            "results": results,
        }
        pathlib.Path(arguments.out).write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
