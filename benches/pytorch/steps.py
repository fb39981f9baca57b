#!/usr/bin/env python3
"""Training steps of edgegen's networks in PyTorch, timed one by one.

    .venv/bin/python benches/pytorch/steps.py --model dcgan-32 --batch 64 --warmup 5 --steps 20
    .venv/bin/python benches/pytorch/steps.py --model vae-conv --batch 64 --warmup 5 --serve

With --serve it answers lines from stdin, as `edgegen-train bench MODEL --serve` does:

    run K     K steps; {"seconds": [...]}, the wall time of each
    memory    {"peak_mib": ...}, the most memory the process ever held (VmHWM)
    quit

The models, all float32 on the CPU and on random pictures held in memory:

    dcgan-32  dcgan.py's GAN at 3x32x32, 64 channels at the sides that meet the picture
    dcgan-64  the same at 3x64x64: the textbook's network
    vae-conv  the preset `vae-conv` at 3x64x64: Bernoulli likelihood, latent 32, Adam with 1e-3
    depthwise-K:CxS   a depthwise convolution with kernels of K on C channels of SxS, forward and backward
    FILE.onnx features of 64x64 pictures at its largest stride, and the gradient for the pictures

A GAN's step is the example's whole step. --frugal spares it the one thing that nothing uses: the gradients of
the discriminator's parameters in the generator's step. The default layout is the faster one here."""

import argparse
import json
import os
import pathlib
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as functional
from torch import nn

import dcgan

POOL = 1024
CHANNELS = 3
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Vae:
    """The networks that trainer/src/graph/family.rs makes of the preset `vae-conv` at 3x64x64."""

    widths = [CHANNELS, 32, 64, 128, 256]
    smallest = 4
    hidden = 256
    latent = 32

    def __init__(self, memory_format):
        inner = self.widths[-1] * self.smallest**2
        pairs = list(zip(self.widths, self.widths[1:]))
        encoder = []
        for narrow, wide in pairs:
            encoder += [nn.Conv2d(narrow, wide, 4, 2, 1), nn.ReLU(True)]
        encoder += [nn.Flatten(), nn.Linear(inner, self.hidden), nn.ReLU(True), nn.Linear(self.hidden, 2 * self.latent)]
        decoder = [nn.Linear(self.latent, self.hidden), nn.ReLU(True), nn.Linear(self.hidden, inner), nn.ReLU(True)]
        decoder += [nn.Unflatten(1, (self.widths[-1], self.smallest, self.smallest))]
        for narrow, wide in reversed(pairs):
            decoder += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1), nn.ReLU(True)]
        self.encoder = nn.Sequential(*encoder).to(memory_format=memory_format)
        self.decoder = nn.Sequential(*decoder[:-1]).to(memory_format=memory_format)
        self.memory_format = memory_format
        self.optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=1e-3)

    def step(self, pictures):
        """One step on pictures (N, C, H, W) in [0, 1]; gives the loss, nats per picture."""
        pictures = pictures.contiguous(memory_format=self.memory_format)
        self.optimizer.zero_grad()
        mean, log_variance = self.encoder(pictures).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 20)
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        logits = self.decoder(latent)
        reconstruction = functional.binary_cross_entropy_with_logits(logits, pictures, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        loss = (reconstruction + divergence) / len(pictures)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Depthwise:
    """A depthwise convolution that keeps the size, forward and backward to its input and its weights."""

    def __init__(self, model, memory_format):
        kernel, channels, side = map(int, re.fullmatch(r"depthwise-(\d+):(\d+)x(\d+)", model).groups())
        self.shape = (channels, side, side)
        self.layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.layer.to(memory_format=memory_format)

    def step(self, pictures):
        pictures = pictures.requires_grad_()
        pictures.grad = None
        self.layer.zero_grad()
        made = self.layer(pictures)
        made.backward(made.detach())


class Features:
    """An ONNX network's values at its largest stride, and the gradient for the pictures."""

    def __init__(self, file):
        sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests/python"))
        import feature_networks
        import onnx

        self.run = feature_networks.Run(onnx.load(file))
        self.seed = None

    def step(self, pictures):
        pictures = pictures.requires_grad_()
        pictures.grad = None
        values, order = self.run(pictures)
        sides = [values[name].shape[2] for name in order if values[name].dim() == 4 and values[name].shape[2] > 1]
        tap = [values[name] for name in order if values[name].dim() == 4 and values[name].shape[2] == min(sides)][-1]
        if self.seed is None:
            self.seed = torch.rand(tap.shape)
        tap.backward(self.seed)


class Bench:
    """A model and the pictures it is trained on, batch after batch."""

    def __init__(self, model, batch, layout, frugal):
        side = 32 if model == "dcgan-32" else 64
        pictures = torch.rand(max(POOL, batch), CHANNELS, side, side)
        if model.startswith("depthwise"):
            self.network = Depthwise(model, LAYOUTS[layout])
            pictures = torch.rand(batch, *self.network.shape).contiguous(memory_format=LAYOUTS[layout])
        elif model.endswith(".onnx"):
            self.network = Features(model)
            pictures = pictures.contiguous(memory_format=LAYOUTS[layout])
        elif model == "vae-conv":
            self.network = Vae(LAYOUTS[layout])
        else:
            pictures = pictures * 2 - 1
            self.network = dcgan.Gan(side, CHANNELS, 64, 64, LAYOUTS[layout], frugal)
        self.batches = [part for part in pictures.split(batch) if len(part) == batch]
        self.next = 0

    def run(self, steps):
        """Wall seconds of each of the next steps."""
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.network.step(self.batches[self.next])
            seconds.append(time.perf_counter() - start)
            self.next = (self.next + 1) % len(self.batches)
        return seconds


def peak_mib():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]) / 1024


def serve(bench):
    for line in sys.stdin:
        match line.split():
            case ["run", steps]:
                print(json.dumps({"seconds": bench.run(int(steps))}), flush=True)
            case ["memory"]:
                print(json.dumps({"peak_mib": round(peak_mib(), 1)}), flush=True)
            case ["quit"]:
                return
            case _:
                raise SystemExit(f"{line.strip()!r}: run K, memory or quit")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="MODEL", required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="without --serve")
    parser.add_argument("--warmup", type=int, default=5, help="steps before anything else, not timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--layout", choices=LAYOUTS, default="channels-last")
    parser.add_argument("--frugal", action="store_true")
    parser.add_argument("--serve", action="store_true", help="answer lines from stdin")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    bench = Bench(arguments.model, arguments.batch, arguments.layout, arguments.frugal)
    bench.run(arguments.warmup)
    if arguments.serve:
        serve(bench)
    else:
        median = statistics.median(bench.run(arguments.steps))
        print(f"{arguments.model}: {1000 * median:.1f} ms a step, {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
