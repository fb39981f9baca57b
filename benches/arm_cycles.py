#!/usr/bin/env python3
"""arm_cycles.py EDGEGEN OBJDUMP MACS INT8-A76 INT8-A72 FP32: cycles of a frame on Raspberry Pi cores, on paper.

EDGEGEN is an aarch64 build with symbols, OBJDUMP one that reads it, MACS the network's multiply-accumulates, and then
the instructions of a frame as arm-counts.sh prints them. The largest loop of each kernel goes through llvm-mca's model
of the core; what a frame runs beside it counts as one instruction a cycle, and memory is as fast as the cache. Two
figures: as the model runs the loop (it lets an address wait for the load that moves it on, which an in-order core then
pays for), and as its busiest unit would allow. Estimates on paper, not measurements."""

import re
import subprocess
import sys

program, objdump, macs, int8_a76, int8_a72, fp32 = sys.argv[1:3] + [int(text) for text in sys.argv[3:7]]
text = subprocess.run([objdump, "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True).stdout
# multiply-accumulates of an instruction
WORK = {"sadalp": 16, "sdot": 16, "fmla": 4}
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)(?:\s*//.*)?$")


def loops(kernel):
    """Straight loops of the functions of a kernel: (multiply-accumulates, instructions)."""
    for function in re.split(r"\n(?=[0-9a-f]+ <)", text):
        if kernel not in function.split("\n", 1)[0] or "3run" not in function.split("\n", 1)[0]:
            continue
        lines = [match.groups() for match in map(LINE.match, function.split("\n")[1:]) if match]
        places = {int(address, 16): index for index, (address, *_) in enumerate(lines)}
        for index, (_, name, operands) in enumerate(lines):
            target = re.match(r"(?:\w+, )?([0-9a-f]+) <", operands)
            if not name.startswith(("b.", "cbnz")) or not target:
                continue
            first = places.get(int(target[1], 16), index + 1)
            body = lines[first : index + 1]
            if first <= index and not any(n.startswith(("b", "cb", "tb", "ret")) for _, n, _ in body[:-1]):
                yield sum(WORK.get(n, 0) for _, n, _ in body), body


def cycles(body, cpu, rounds=200):
    """Cycles of a round of a loop without its branch: as the model runs it, and of its busiest unit."""
    source = "\n".join(f"{name} {operands}" for _, name, operands in body[:-1])
    command = ["llvm-mca", "-march=aarch64", f"-mcpu={cpu}", f"-mattr=+dotprod", f"-iterations={rounds}"]
    report = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    least = float(re.search(r"Block RThroughput:\s+([\d.]+)", report)[1])
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / rounds + 1, least + 1


BOARDS = [
    ("Zero 2 W", "cortex-a53", "Cortex-A53", 1.0, "NEON_INTEGERS_16", int8_a72),
    ("Pi 3 B+", "cortex-a53", "Cortex-A53", 1.4, "NEON_INTEGERS_16", int8_a72),
    ("Pi 4", "cortex-a72", "Cortex-A72", 1.8, "NEON_INTEGERS_16", int8_a72),
    ("Pi 5", "cortex-a76", "Cortex-A76", 2.4, "DOT_INTEGERS_16", int8_a76),
]
print(f"{'board':10} {'core':11} {'GHz':>4} {'number':7} {'MAC/cycle':>12} {'M cycles':>14} {'ms':>12} {'frames/s':>12}")
for board, cpu, core, clock, integers, instructions in BOARDS:
    for number, kernel, count in [("int8", integers, instructions), ("float32", "NEON_FLOATS_4", fp32)]:
        work, body = max(loops(kernel), key=lambda loop: loop[0])
        rates = [work / of_loop for of_loop in cycles(body, cpu)]
        frames = [macs / rate + max(count - macs / work * len(body), 0) for rate in rates]
        times = [frame / clock / 1e6 for frame in frames]

        def both(values, digits):
            return " to ".join(f"{value:.{digits}f}" for value in values)

        rest = f"{both(rates, 1):>12} {both([f / 1e6 for f in frames], 2):>14} {both(times, 2):>12}"
        print(f"{board:10} {core:11} {clock:4} {number:7} {rest} {both([1e3 / time for time in times], 0):>12}")
