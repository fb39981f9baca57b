#!/usr/bin/env python3
"""Time and memory of a training step in edgegen and in PyTorch, interleaved: both programs stay alive and
take turns, and which of them begins changes from round to round.

    bash tests/python/setup.sh torch
    cargo build --release -p edgegen-trainer
    .venv/bin/python benches/pytorch/compare_steps.py --ours target/release/edgegen-train [--out F.json]

PyTorch runs in the form that is fastest on the machine at hand: the layout and Adam that steps.py takes by
default, and no gradients that nothing uses (--frugal). Both get all cores and the same batch.

The ratio is ours over PyTorch's, of the medians over all steps; the interval is a bootstrap over rounds.
A round counts as disturbed if other processes used more than a twentieth of the CPU in it; it is run again,
up to --rounds times more, and the file says of every round what others used."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

import numpy as np
import torch

DISTURBED = 0.05
RESAMPLES = 10_000


class Child:
    """One program that answers `run`, `memory` and `quit`."""

    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"{' '.join(self.command)}: ended with {self.process.wait()} at {line!r}")
        return json.loads(answer)

    def cpu_ticks(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def run(self, steps):
        """Seconds of each step, and the share of the machine's CPU time that others used meanwhile."""
        total, busy = machine_ticks()
        own = self.cpu_ticks()
        seconds = self.ask(f"run {steps}")["seconds"]
        total_after, busy_after = machine_ticks()
        others = (busy_after - busy - (self.cpu_ticks() - own)) / max(1, total_after - total)
        return {"seconds": seconds, "others": round(max(0.0, others), 3)}

    def quit(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.close()
        self.process.wait()


def machine_ticks():
    """All of the machine's CPU time, and the part that was not idle."""
    with open("/proc/stat") as stat:
        user, nice, system, idle, waiting, *rest = map(int, stat.readline().split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy + idle + waiting, busy


def compare(ours, theirs, rounds, steps, warmup):
    """Rounds of both, the undisturbed ones if there are enough of them, and what they say."""
    for child in (ours, theirs):
        child.ask(f"run {warmup}")
    done = []
    while len(done) < 2 * rounds and sum(is_quiet(entry) for entry in done) < rounds:
        turns = {"ours": ours, "pytorch": theirs}
        names = list(turns) if len(done) % 2 == 0 else list(reversed(turns))
        done.append({name: turns[name].run(steps) for name in names})
    quiet = [entry for entry in done if is_quiet(entry)]
    used = quiet if len(quiet) == rounds else done
    seconds = {name: np.array([entry[name]["seconds"] for entry in used]) for name in ("ours", "pytorch")}
    low, high = interval(seconds["ours"], seconds["pytorch"])
    return {
        "ours_ms": 1000 * float(np.median(seconds["ours"])),
        "pytorch_ms": 1000 * float(np.median(seconds["pytorch"])),
        "ratio": float(np.median(seconds["ours"]) / np.median(seconds["pytorch"])),
        "ratio_95": [low, high],
        "ours_peak_mib": ours.ask("memory")["peak_mib"],
        "pytorch_peak_mib": theirs.ask("memory")["peak_mib"],
        "quiet_rounds": len(quiet),
        "used_rounds": len(used),
        "rounds": done,
    }


def is_quiet(entry):
    return all(turn["others"] <= DISTURBED for turn in entry.values())


def interval(ours, theirs):
    """95% of the ratio of medians when the rounds, both programs' turns together, are drawn anew."""
    chance = np.random.default_rng(1)
    drawn = chance.integers(0, len(ours), (RESAMPLES, len(ours)))
    flat = (RESAMPLES, -1)
    ratios = np.median(ours[drawn].reshape(flat), 1) / np.median(theirs[drawn].reshape(flat), 1)
    return [float(value) for value in np.percentile(ratios, [2.5, 97.5])]


def machine():
    with open("/proc/cpuinfo") as facts:
        lines = dict(map(str.strip, line.split(":", 1)) for line in facts if ":" in line)
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in lines.get("flags", "").split()]
    return {
        "cpu": lines.get("model name", "?"), "features": features, "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="edgegen-train")
    parser.add_argument("--models", default="dcgan-32,dcgan-64,vae-conv")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=6, help="of each program in a round")
    parser.add_argument("--warmup", type=int, default=5, help="steps of each program before the first round")
    parser.add_argument("--out", help="raw results")
    arguments = parser.parse_args()
    steps = pathlib.Path(__file__).resolve().parent / "steps.py"

    results = []
    print("| model | edgegen, ms a step | PyTorch, ms a step | ratio | 95% | edgegen, peak MiB | PyTorch, peak MiB |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for model in arguments.models.split(","):
        batch = ["--batch", str(arguments.batch)]
        ours = Child([arguments.ours, "bench", model, *batch, "--serve"])
        theirs = Child([sys.executable, str(steps), "--model", model, *batch, "--warmup", "0", "--frugal", "--serve"])
        result = {"model": model, **compare(ours, theirs, arguments.rounds, arguments.steps, arguments.warmup)}
        for child in (ours, theirs):
            child.quit()
        low, high = result["ratio_95"]
        print(
            f"| `{model}` | {result['ours_ms']:.1f} | {result['pytorch_ms']:.1f} | {result['ratio']:.2f} | {low:.2f}–{high:.2f} "
            f"| {result['ours_peak_mib']:.0f} | {result['pytorch_peak_mib']:.0f} |",
            flush=True,
        )
        if result["quiet_rounds"] < result["used_rounds"]:
            print(f"{model}: only {result['quiet_rounds']} of {result['used_rounds']} rounds were undisturbed", file=sys.stderr)
        results.append(result)
    if arguments.out:
        raw = {
            "machine": machine(), "torch": torch.__version__, "threads": os.cpu_count(),
            "date": datetime.date.today().isoformat(), "batch": arguments.batch, "steps_per_round": arguments.steps,
            "results": results,
        }
        pathlib.Path(arguments.out).write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
