#!/usr/bin/env python3
"""Latency of a model in edgegen and in other runtimes, interleaved: they take turns for a number of
rounds, and ratios are those of the medians over rounds.

    bash tests/python/setup.sh
    cargo build --release -p edgegen-runtime
    .venv/bin/python benches/compare.py models/mnist-vae2/decoder.fp32.onnx [--rounds 15] [--out F.json]

One thread, batch 1. onnxruntime runs with spinning off, all graph optimisations, and its input and output bound once.
More runtimes by --with:
- edgegen-tract: the same program with --engine tract, in the form in which edgegen gives a network to tract
- tract, rten: `cargo build --release --manifest-path benches/peers/Cargo.toml`
- litert, ncnn: `.venv/bin/pip install ai-edge-litert ncnn` and `bash benches/peers/convert.sh DIR MODEL.fp32.onnx…`; --converted DIR

A runtime that cannot run a file has no figure for it: rten has no QLinearConv; ncnn's int8 needs tools that are not in its
Python package."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

RUNS_PER_ROUND = 300
WARM_UP = 50


def edgegen_round(program, model, *more):
    """Median microseconds of one process of `edgegen bench`, and its whole report."""
    command = [program, "bench", model, "--json", "--runs", str(RUNS_PER_ROUND), *more]
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
    return timed(lambda: session.run_with_iobinding(binding))


def timed(run):
    """Median microseconds of a function."""
    times = []
    for index in range(WARM_UP + RUNS_PER_ROUND):
        start = time.perf_counter_ns()
        run()
        if index >= WARM_UP:
            times.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(times)


def rust_peer(engine, program, model, session):
    """`edgegen-peers`, a process a round."""
    shapes = [",".join("1" if not isinstance(size, int) else str(size) for size in argument.shape) for argument in session.get_inputs()]

    def measure():
        command = [program, engine, model, str(RUNS_PER_ROUND), *shapes]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return measure


def litert_peer(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.random.default_rng(7).standard_normal(detail["shape"]).astype(np.float32))
    return lambda: timed(interpreter.invoke)


def ncnn_peer(path, session):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(f"{path}.param")
    net.load_model(f"{path}.bin")
    shape = [size for size in session.get_inputs()[0].shape if isinstance(size, int)]
    x = ncnn.Mat(np.random.default_rng(7).standard_normal(shape).astype(np.float32))
    outputs = [f"out{index}" for index in range(len(session.get_outputs()))]

    def run():
        extractor = net.create_extractor()
        extractor.input("in0", x)
        for output in outputs:
            extractor.extract(output)

    return lambda: timed(run)


def peers(names, model, session, converted, program, programs):
    """A function for each runtime that measures one round."""
    path = pathlib.Path(model)
    name, precision = path.name.removesuffix(".onnx").rsplit(".", 1)
    stem = converted / f"{path.resolve().parent.name}.{name}" if converted else None
    measured = {}
    for peer in names:
        if peer == "edgegen-tract":
            candidate = lambda: edgegen_round(program, model, "--engine", "tract")[0]
        elif peer == "tract":
            candidate = rust_peer(peer, programs, model, session)
        elif peer == "rten":
            # it reads repeated fields only as Python's onnx writes them: one by one, not packed
            rewritten = pathlib.Path(tempfile.mkdtemp()) / path.name
            onnx.save(onnx.load(model), rewritten)
            candidate = rust_peer(peer, programs, str(rewritten), session)
        elif peer == "litert" and stem and pathlib.Path(f"{stem}.{precision}.tflite").exists():
            candidate = litert_peer(f"{stem}.{precision}.tflite")
        elif peer == "ncnn" and precision == "fp32" and stem and pathlib.Path(f"{stem}.ncnn.param").exists():
            candidate = ncnn_peer(f"{stem}.ncnn", session)
        else:
            continue
        try:
            candidate()
        except subprocess.CalledProcessError as error:
            print(f"{model}: {peer}: {error.stderr.strip().splitlines()[0][:160]}")
            continue
        measured[peer] = candidate
    return measured


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
    parser.add_argument("--with", dest="peers", default="", help="more runtimes: tract,rten,litert,ncnn")
    parser.add_argument("--converted", type=pathlib.Path, help="where files for LiteRT and ncnn lie")
    parser.add_argument("--peers-program", help="edgegen-peers; without it: its release build")
    parser.add_argument("--out", help="raw results")
    arguments = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    program = arguments.program or str(target / "release/edgegen")

    others = [name for name in arguments.peers.split(",") if name]
    programs = arguments.peers_program or str(
        pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "benches/peers/target")) / "release/edgegen-peers")
    engines = ["onnxruntime", *others]

    results = []
    print(f"µs, median of {arguments.rounds} rounds; behind each runtime: edgegen's share of its time")
    print(f"{'model':<44} {'edgegen':>8} {'of peak':>8}" + "".join(f" {engine:>16}" for engine in engines))
    for model in arguments.models:
        session, binding = onnxruntime_session(model)
        measured = {"onnxruntime": lambda: onnxruntime_round(session, binding)}
        measured |= peers(others, model, session, arguments.converted, program, programs)
        rounds = []
        for _ in range(arguments.rounds):
            ours, report = edgegen_round(program, model)
            rounds.append({"edgegen_us": ours, "percent_of_peak": report["percent_of_peak"] or 0.0}
                          | {f"{engine}_us": measure() for engine, measure in measured.items()})
        median = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        ours = median["edgegen_us"]
        line = f"{model:<44} {ours:>8.1f} {median['percent_of_peak']:>6.1f} %"
        for engine in engines:
            theirs = median.get(f"{engine}_us")
            line += f" {theirs:>9.1f} ({ours / theirs:.2f})" if theirs else f" {'–':>16}"
        print(line, flush=True)
        ratios = {engine: ours / median[f"{engine}_us"] for engine in measured}
        results.append({"model": model} | median | {"ratios": ratios, "rounds": rounds, "last_report": report})
    if arguments.out:
        raw = {
            "machine": machine(), "onnxruntime": onnxruntime.__version__, "runs_per_round": RUNS_PER_ROUND,
            "results": results,
        }
        pathlib.Path(arguments.out).write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
