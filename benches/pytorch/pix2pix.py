#!/usr/bin/env python3
"""pix2pix (P. Isola et al., 2017) in PyTorch with the networks and the step of its authors' program
(junyanz/pytorch-CycleGAN-and-pix2pix): the baseline that `edgegen-train train translate` is compared with.

    .venv/bin/python benches/pytorch/pix2pix.py train --data FROM --to TO --out RUN --images 120000 --ngf 16 --ndf 32
    .venv/bin/python benches/pytorch/pix2pix.py apply RUN/g.pt --data FROM/test --out MADE

The authors': a U-Net of convolutions with kernels of 4 and stride 2 down to 1x1, leaky ReLU 0.2, batch norm, dropout in
the three innermost layers of the way up, tanh; a discriminator of patches; BCE + 100 times L1; Adam with 2e-4 and betas
0.5 and 0.999, constant for the first half and then falling to zero; weights from N(0, 0.02). Pictures are 64x64 and are
mirrored at random. Unlike theirs: a batch of 16 instead of 1, as edgegen's, and two layers of stride 2 in the
discriminator, patches of 34x34. Pairs have the same path below FROM and TO; FROM/train is learned from where it exists."""

import argparse
import json
import pathlib
import time

import numpy as np
import torch
from PIL import Image
from torch import nn

SIDE = 64
BATCH = 16


class Level(nn.Module):
    """One level of the U-Net, around the next one."""

    def __init__(self, outer, inner, inside=None, outermost=False, dropout=False):
        super().__init__()
        down = [nn.Conv2d(3 if outermost else outer, inner, 4, 2, 1, bias=False)]
        if not outermost:
            down.insert(0, nn.LeakyReLU(0.2))
            if inside is not None:
                down.append(nn.BatchNorm2d(inner))
        wide = inner if inside is None else 2 * inner
        up = [nn.ReLU(), nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=outermost)]
        up += [nn.Tanh()] if outermost else [nn.BatchNorm2d(outer)]
        if dropout:
            up.append(nn.Dropout(0.5))
        self.outermost = outermost
        self.model = nn.Sequential(*down, *([inside] if inside is not None else []), *up)

    def forward(self, x):
        made = self.model(x)
        return made if self.outermost else torch.cat([x, made], 1)


def generator(ngf):
    """(N, 3, 64, 64) -> (N, 3, 64, 64) in [-1, 1]."""
    level = Level(8 * ngf, 8 * ngf)
    level = Level(8 * ngf, 8 * ngf, level, dropout=True)
    level = Level(4 * ngf, 8 * ngf, level)
    level = Level(2 * ngf, 4 * ngf, level)
    level = Level(ngf, 2 * ngf, level)
    return Level(3, ngf, level, outermost=True).apply(initialise)


def discriminator(ndf):
    """(N, 6, 64, 64) -> (N, 1, 14, 14) logits."""
    return nn.Sequential(
        nn.Conv2d(6, ndf, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * ndf), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * ndf, 4 * ndf, 4, 1, 1, bias=False), nn.BatchNorm2d(4 * ndf), nn.LeakyReLU(0.2),
        nn.Conv2d(4 * ndf, 1, 4, 1, 1),
    ).apply(initialise)


def initialise(layer):
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


def picture(path):
    levels = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC), dtype=np.float32)
    return torch.from_numpy(levels.transpose(2, 0, 1) / 127.5 - 1.0)


def train(arguments):
    torch.manual_seed(arguments.seed)
    root = arguments.data / "train" if (arguments.data / "train").is_dir() else arguments.data
    paths = sorted(root.rglob("*.png"))
    given = torch.stack([picture(path) for path in paths])
    wanted = torch.stack([picture(arguments.to / path.relative_to(arguments.data)) for path in paths])
    g, d = generator(arguments.ngf), discriminator(arguments.ndf)
    optimisers = [torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999)) for network in (g, d)]
    bce, l1 = nn.BCEWithLogitsLoss(), nn.L1Loss()
    steps = arguments.images // BATCH
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = open(arguments.out / "log.jsonl", "w")
    begun, order = time.process_time(), []
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(paths)).tolist()
        some, order = order[:BATCH], order[BATCH:]
        x, y = given[some], wanted[some]
        mirrored = torch.rand(BATCH) < 0.5
        x[mirrored], y[mirrored] = x[mirrored].flip(-1), y[mirrored].flip(-1)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = 2e-4 * min(1.0, 2.0 * (1.0 - step / steps))
        made = g(x)
        optimisers[1].zero_grad()
        real, fake = d(torch.cat([x, y], 1)), d(torch.cat([x, made.detach()], 1))
        loss_d = 0.5 * (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake)))
        loss_d.backward()
        optimisers[1].step()
        optimisers[0].zero_grad()
        judged, apart = d(torch.cat([x, made], 1)), l1(made, y)
        (bce(judged, torch.ones_like(judged)) + 100.0 * apart).backward()
        optimisers[0].step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            line = {"images": (step + 1) * BATCH, "l1": apart.item(), "d_loss": loss_d.item(),
                    "cpu_seconds": round(time.process_time() - begun, 1)}
            print(json.dumps(line), file=log, flush=True)
            torch.save({"ngf": arguments.ngf, "g": g.state_dict()}, arguments.out / "g.part")
            (arguments.out / "g.part").rename(arguments.out / "g.pt")
    weights = sum(parameter.numel() for parameter in g.parameters())
    print(f"{weights} weights, {steps * BATCH} images, {time.process_time() - begun:.0f} s of CPU time")


def apply(arguments):
    stored = torch.load(arguments.weights)
    g = generator(stored["ngf"])
    g.load_state_dict(stored["g"])
    g.eval()
    for path in sorted(arguments.data.rglob("*.png")):
        with torch.no_grad():
            made = g(picture(path)[None])[0]
        levels = ((made + 1.0) * 127.5).round().clamp(0, 255).byte().numpy().transpose(1, 2, 0)
        out = arguments.out / path.relative_to(arguments.data)
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.add_argument("--data", type=pathlib.Path, required=True)
    command.add_argument("--to", type=pathlib.Path, required=True)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("--images", type=int, default=120_000)
    command.add_argument("--ngf", type=int, default=64)
    command.add_argument("--ndf", type=int, default=64)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=train)
    command = commands.add_parser("apply")
    command.add_argument("weights", type=pathlib.Path)
    command.add_argument("--data", type=pathlib.Path, required=True)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.set_defaults(run=apply)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
