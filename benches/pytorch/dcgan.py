#!/usr/bin/env python3
"""A DCGAN in PyTorch with the networks and the step of PyTorch's own example (pytorch/examples, dcgan):
the baseline that edgegen's GANs are compared with.

    .venv/bin/python benches/pytorch/dcgan.py train --data ../shared/data/emoji64/train --out RUN \\
        --ngf 32 --ndf 32 --images 1000000 --save-every 25000 [--seed 1] [--resume]
    .venv/bin/python benches/pytorch/dcgan.py train --data ../shared/data/mnist --size 28 --out RUN
    .venv/bin/python benches/pytorch/dcgan.py sample RUN/g-1000000.pt --count 10000 --seed 1 --out samples.npy

The example's: no biases, weights from N(0, 0.02), batch norm from N(1, 0.02), BCE, Adam with 2e-4 and betas
0.5 and 0.999, real and fake batches apart, no augmentation, no label smoothing. Size 64 is the example's network;
32 is that with one halving less; 28 starts from 7x7. Unlike the example, an incomplete last batch is left out.

RUN gets g-IMAGES.pt (the generator's state dict), checkpoint.pt (everything, for --resume) and log.jsonl.
Seconds there leave pauses out: a step of more than three times the usual counts as a usual one. cpu_seconds
is the process's CPU time over all threads."""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import time

import numpy as np
import torch
from PIL import Image
from torch import nn

LATENT = 100
BATCH = 64


def widths(side, base):
    """Channels from the largest inner layer to the smallest, and the smallest side."""
    smallest = 7 if side == 28 else 4
    halvings = (side // smallest).bit_length() - 1
    return [base << level for level in range(halvings)], smallest


def generator(side, channels, base, latent=LATENT):
    """(N, latent, 1, 1) → (N, channels, side, side) in [-1, 1]."""
    inner, smallest = widths(side, base)
    inner.reverse()
    layers = [nn.ConvTranspose2d(latent, inner[0], smallest, 1, 0, bias=False), nn.BatchNorm2d(inner[0]), nn.ReLU(True)]
    for wide, narrow in zip(inner, inner[1:]):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(True)]
    layers += [nn.ConvTranspose2d(inner[-1], channels, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers).apply(initialise)


def discriminator(side, channels, base):
    """(N, channels, side, side) → (N) probabilities of being real."""
    inner, smallest = widths(side, base)
    layers = [nn.Conv2d(channels, inner[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for narrow, wide in zip(inner, inner[1:]):
        layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]
    layers += [nn.Conv2d(inner[-1], 1, smallest, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0)]
    return nn.Sequential(*layers).apply(initialise)


def initialise(layer):
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


class Gan:
    """Both networks with their optimisers."""

    def __init__(self, side, channels, ngf, ndf, memory_format=torch.contiguous_format, frugal=False):
        """frugal: the generator's step computes no gradients of the discriminator's parameters, which
        the example computes and throws away."""
        self.memory_format = memory_format
        self.frugal = frugal
        self.generator = generator(side, channels, ngf).to(memory_format=memory_format)
        self.discriminator = discriminator(side, channels, ndf).to(memory_format=memory_format)
        self.criterion = nn.BCELoss()
        adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), **adam)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), **adam)

    def parts(self):
        return {
            "generator": self.generator, "discriminator": self.discriminator,
            "optimizer_d": self.optimizer_d, "optimizer_g": self.optimizer_g,
        }

    def step(self, real):
        """One step of each network on `real` (N, C, H, W) in [-1, 1]. Gives the discriminator's loss, the
        generator's, and the means of D(x), D(G(z)) and, after the discriminator's step, D(G(z)) again."""
        real = real.contiguous(memory_format=self.memory_format)
        is_real = torch.ones(len(real))
        is_fake = torch.zeros(len(real))

        self.discriminator.zero_grad()
        score_real = self.discriminator(real)
        loss_real = self.criterion(score_real, is_real)
        loss_real.backward()
        fake = self.generator(torch.randn(len(real), LATENT, 1, 1))
        score_fake = self.discriminator(fake.detach())
        loss_fake = self.criterion(score_fake, is_fake)
        loss_fake.backward()
        self.optimizer_d.step()

        self.generator.zero_grad()
        if self.frugal:
            self.discriminator.requires_grad_(False)
        score_again = self.discriminator(fake)
        loss_g = self.criterion(score_again, is_real)
        loss_g.backward()
        if self.frugal:
            self.discriminator.requires_grad_(True)
        self.optimizer_g.step()

        loss_d = loss_real.item() + loss_fake.item()
        scores = [score.mean().item() for score in (score_real, score_fake, score_again)]
        return [loss_d, loss_g.item(), *scores]


def load(folder, side, channels):
    """Pictures (N, C, side, side) uint8: an IDX training set, or all PNG files below the folder."""
    idx = folder / "train-images-idx3-ubyte.gz"
    if idx.exists():
        raw = gzip.decompress(idx.read_bytes())
        count, height, width = np.frombuffer(raw, ">u4", 3, 4)
        pictures = map(Image.fromarray, np.frombuffer(raw, np.uint8, offset=16).reshape(count, height, width))
    else:
        pictures = map(Image.open, sorted(folder.rglob("*.png")))
    mode = "L" if channels == 1 else "RGB"
    arrays = []
    for picture in pictures:
        picture = picture.convert(mode)
        if picture.size != (side, side):
            picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        arrays.append(np.asarray(picture).reshape(side, side, channels))
    if len(arrays) < BATCH:
        raise SystemExit(f"{folder}: {len(arrays)} pictures; a batch takes {BATCH}")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


class Clock:
    """Seconds of steps without the time in which the process was stopped."""

    def __init__(self, seconds=0.0, cpu_seconds=0.0):
        self.seconds = seconds
        self.cpu_before = cpu_seconds - time.process_time()
        self.recent = []

    def step(self, seconds):
        if len(self.recent) >= 10:
            usual = statistics.median(self.recent)
            seconds = usual if seconds > 3 * usual else seconds
        self.recent = [*self.recent[-99:], seconds]
        self.seconds += seconds

    def cpu_seconds(self):
        return self.cpu_before + time.process_time()


def save(value, path):
    """All of the file or the old one, whenever the process is killed."""
    part = path.with_suffix(".part")
    torch.save(value, part)
    part.replace(path)


def train(arguments):
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    formats = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    gan = Gan(arguments.size, arguments.channels, arguments.ngf, arguments.ndf, formats[arguments.layout])
    pictures = load(arguments.data, arguments.size, arguments.channels)
    steps_per_epoch = len(pictures) // BATCH
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "checkpoint.pt"
    step = 0
    clock = Clock()
    if arguments.resume:
        state = torch.load(checkpoint)
        for name, part in gan.parts().items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        step = state["step"]
        clock = Clock(state["seconds"], state["cpu_seconds"])
    elif checkpoint.exists():
        raise SystemExit(f"{checkpoint} is there already; go on from it with --resume, or name another --out")
    print(f"{len(pictures)} pictures of {tuple(pictures.shape[1:])}; from image {step * BATCH} to {arguments.images}", flush=True)

    recorded = []
    order = None
    while step * BATCH < arguments.images:
        start = time.perf_counter()
        epoch, place = divmod(step, steps_per_epoch)
        if order is None or place == 0:
            chance = torch.Generator().manual_seed(arguments.seed * 1_000_003 + epoch)
            order = torch.randperm(len(pictures), generator=chance)
        real = pictures[order[place * BATCH : (place + 1) * BATCH]].float() / 127.5 - 1
        recorded.append(gan.step(real))
        step += 1
        images = step * BATCH
        clock.step(time.perf_counter() - start)

        due = images // arguments.save_every > (images - BATCH) // arguments.save_every
        if due or images >= arguments.images:
            names = ["loss_d", "loss_g", "d_real", "d_fake", "d_fake_after"]
            means = dict(zip(names, np.round(np.mean(recorded, 0), 5).tolist()))
            recorded = []
            entry = {"images": images, **means, "seconds": round(clock.seconds, 1), "cpu_seconds": round(clock.cpu_seconds(), 1)}
            # The multiple of --save-every that was reached: the step may have gone beyond it.
            reached = images - images % arguments.save_every if due else images
            save(gan.generator.state_dict(), arguments.out / f"g-{reached}.pt")
            state = {name: part.state_dict() for name, part in gan.parts().items()}
            state |= {"random": torch.get_rng_state(), "step": step, "seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds()}
            save(state, checkpoint)
            with open(arguments.out / "log.jsonl", "a") as log:
                log.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)


@torch.no_grad()
def sample(arguments):
    state = torch.load(arguments.generator)
    kernels = [value for value in state.values() if value.ndim == 4]
    latent, _, smallest, _ = kernels[0].shape
    base, channels = kernels[-1].shape[:2]
    network = generator(smallest << len(kernels) - 1, channels, base, latent)
    network.load_state_dict(state)
    network.train(arguments.train_mode)
    torch.manual_seed(arguments.seed)
    batches = []
    for _ in range(0, arguments.count, BATCH):
        pictures = network(torch.randn(BATCH, latent, 1, 1))
        batches.append(((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    np.save(arguments.out, np.concatenate(batches)[: arguments.count])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("train", help="a run folder from pictures")
    command.add_argument("--data", type=pathlib.Path, required=True, help="IDX files, or PNG files in folders")
    command.add_argument("--out", type=pathlib.Path, required=True, help="the run's folder")
    command.add_argument("--size", type=int, choices=[28, 32, 64], default=64)
    command.add_argument("--channels", type=int, choices=[1, 3], help="default: 1 at size 28, otherwise 3")
    command.add_argument("--ngf", type=int, default=64, help="channels of the generator's last inner layer")
    command.add_argument("--ndf", type=int, default=64, help="channels of the discriminator's first layer")
    command.add_argument("--images", type=int, default=1_000_000, help="real images to see")
    command.add_argument("--save-every", type=int, default=25_000, help="in real images")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--threads", type=int, default=os.cpu_count())
    command.add_argument("--layout", choices=["contiguous", "channels-last"], default="channels-last")
    command.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    command.set_defaults(action=train)

    command = commands.add_parser("sample", help="pictures of a trained generator, uint8 (N, H, W, C)")
    command.add_argument("generator", type=pathlib.Path, help="RUN/g-IMAGES.pt")
    command.add_argument("--count", type=int, default=10_000)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--out", type=pathlib.Path, required=True, help=".npy")
    command.add_argument("--train-mode", action="store_true", help="batch norm over each 64 pictures, as the example draws its own")
    command.set_defaults(action=sample)

    arguments = parser.parse_args()
    if getattr(arguments, "channels", 0) is None:
        arguments.channels = 1 if arguments.size == 28 else 3
    arguments.action(arguments)


if __name__ == "__main__":
    main()
