"""Images per second of ``sppcls train`` over a bare PyTorch loop with the same network, images and batches; and the
time of a 180 epoch over that of a 224 epoch, beside that of the network's steps alone.

    python benchmarks/train_loop.py [--data-root FOLDER [--cache]] [--rounds 3] [KEY=VALUE ...]
    python benchmarks/train_loop.py --data-root FOLDER --peer reference backbone=resnet18 head=linear augment=resized
    python benchmarks/train_loop.py --data-root FOLDER --cache --peak 989 trainer=gpu backbone=resnet50 data.batch_size=256

Both sides train the default small ZF-5 with the default loader settings, or what the words say; they take turns, two epochs
at 224 and two at 180 (the peer one each, without its first step), and the medians over the rounds are reported. The peer is the loop that one would write by hand
around a torch DataLoader with torchvision transforms that decode, cut and resize per image, in channels_last; or, in the second
command, torchvision's reference script for classification: its preset with random resized crops (here ``augment=resized``),
its loop with a metric of every step, torch's default layout, at 224 and then at 180. The third command is for a GPU; --peak is what it does at most in the arithmetic of ``trainer=gpu`` (bf16), in TFLOP/s.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from common import AS_TRAINING_DOES, finish, in_a_process, ratio_row
from common import parser as arguments
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from sppcls import compose, train
from sppcls._util.allocator import keep_freed_memory
from sppcls.config.build import build_network, load_sources
from sppcls.config.schema import Config
from sppcls.data import FileSource, Source


class Images(Dataset):
    """A source with ordinary per-image transforms: float images, normalised in the worker."""

    def __init__(self, source: Source, config: Config, size: int) -> None:
        self.source = source
        self.transform = v2.Compose(
            [
                v2.Resize(256, antialias=True),
                v2.RandomCrop(224),
                v2.RandomHorizontalFlip(),
                v2.Resize(size, antialias=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(config.data.mean, config.data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.source.image(index)), self.source.targets[index]


class Preset(Dataset):
    """A source of files seen through ``ClassificationPresetTrain`` of torchvision's references, its Pillow backend."""

    def __init__(self, source: Source, config: Config, size: int) -> None:
        assert isinstance(source, FileSource)
        self.source = source
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(config.data.mean, config.data.std),
                v2.ToPureTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.source.root / self.source.name(index)) as image:
            return self.transform(image.convert("RGB")), self.source.targets[index]


def reference_loop(config: Config, source: Source) -> dict[str, float]:
    """Seconds per image of one epoch at each size, as ``train_one_epoch`` of torchvision's references does it."""
    torch.manual_seed(0)
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    net = build_network(config, len(source.classes)).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()
    seconds = {}
    for size in (224, 180):
        loader = DataLoader(
            Preset(source, config, size), config.data.batch_size, shuffle=True, drop_last=True,
            num_workers=config.data.workers, pin_memory=on_gpu,
        )  # fmt: skip
        count, started = 0, 0.0
        for step, (x, target) in enumerate(itertools.islice(loader, config.trainer.limit_train_batches)):
            if step == 1:
                started = now(device)
            x, target = x.to(device), target.to(device)
            output = net(x)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.inference_mode():  # its metrics of every step
                _, best = output.topk(min(5, output.shape[1]), 1)
                right = best.eq(target[:, None])
                [right[:, :k].sum().item() for k in (1, 5)]
                loss.item()
            count += len(target) if step else 0
        seconds[str(size)] = (now(device) - started) / count
    return seconds


def steps_alone(config: Config, source: Source) -> dict[str, float]:
    """Seconds per image of a step at each size on a batch that is there already."""
    torch.manual_seed(0)
    keep_freed_memory()
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    net = build_network(config, len(source.classes)).to(device).to(memory_format=torch.channels_last).train()
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    batch = config.data.batch_size
    target = torch.randint(0, len(source.classes), (batch,), device=device)
    seconds = {}
    for size in (224, 180):
        x = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        each = []
        for _ in range(6):
            started = now(device)
            with mixed:
                loss = F.cross_entropy(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            each.append(now(device) - started)
        seconds[str(size)] = statistics.median(each[1:]) / batch
    return seconds


def bare_loop(config: Config, source: Source) -> dict[str, float]:
    """Seconds per image of one epoch at each size."""
    torch.manual_seed(0)
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    net = build_network(config, len(source.classes)).to(device).to(memory_format=torch.channels_last).train()
    compiled = torch.compile(net) if config.trainer.compile else net
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    seconds = {}
    for size in (224, 180):
        loader = DataLoader(
            Images(source, config, size), config.data.batch_size, shuffle=True, drop_last=True,
            num_workers=config.data.workers, persistent_workers=config.data.workers > 0, pin_memory=device.type == "cuda",
        )  # fmt: skip
        count, started = 0, 0.0
        for step, (x, target) in enumerate(itertools.islice(loader, config.trainer.limit_train_batches)):
            if step == 1:  # the first step warms up, as in sppcls's own figure
                started = now(device)
            x = x.to(device, memory_format=torch.channels_last, non_blocking=True)
            with mixed:
                loss = F.cross_entropy(compiled(x), target.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(target) if step else 0
        seconds[str(size)] = (now(device) - started) / count
    return seconds


def now(device: torch.device) -> float:
    """The time when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def flop_per_image(config: Config, classes: int, size: int) -> int:
    """Floating-point operations of convolutions and linear layers, forward and backward."""
    net = build_network(config, classes).train()
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(2, 3, size, size)).sum().backward()
    return int(counter.get_total_flops()) // 2


def with_sppcls(config: Config) -> dict[str, float]:
    """The same from ``metrics.csv`` of a real run, of its second epoch at each size.

    In the first, the kernels for a size are made and memory is found. The bare loop leaves out its first step for that.
    """
    folder = Path(train(config)["folder"])
    with open(folder / "metrics.csv", newline="") as file:
        return {row["size"]: 1 / float(row["images_per_s"]) for row in csv.DictReader(file)}


PEERS = {"bare": "a bare loop", "reference": "torchvision's reference loop"}


def measure(side: str, words: list[str]) -> dict[str, float]:
    """Seconds per image at each size."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose([*words, f"runs_dir={folder}"])
        if side == "sppcls":
            return with_sppcls(config)
        loop = {"bare": bare_loop, "reference": reference_loop, "alone": steps_alone}[side]
        return loop(config, load_sources(config)[0])


def main() -> None:
    parser = arguments(__doc__, 3)
    parser.add_argument("--data-root", help="folder with train/ and val/; default: the generated images")
    parser.add_argument("--cache", action="store_true", help="with data.cache=disk (needs --data-root)")
    parser.add_argument("--peer", choices=PEERS, default="bare", help="(bare)")
    parser.add_argument("--peak", type=float, metavar="TFLOP/S", help="what the processor can do at most")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="config of both sides")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.words)))
        return
    words = [
        "augment=anywhere",
        "trainer.max_epochs=4",
        "trainer.val_every=4",
        "trainer.limit_val_batches=1",
        "log.images=false",
    ]
    words += ["data=folder", f"data.root={args.data_root}"] if args.data_root else []
    label = ", ".join([Path(args.data_root).name if args.data_root else "generated images", *args.words])
    sides = {"sppcls": AS_TRAINING_DOES, args.peer: {}, "alone": AS_TRAINING_DOES}
    figures: dict[str, list[float]] = {f"{side} {size}": [] for side in sides for size in (224, 180)}
    with tempfile.TemporaryDirectory() as folder:
        if args.cache:
            words += ["data.cache=disk", f"data.cache_dir={folder}"]
            label += ", data.cache=disk"
        words += args.words
        for i in range(args.rounds):
            for side in list(sides)[:: 1 if i % 2 == 0 else -1]:
                # What training leaves behind in the allocator would change the peer.
                for size, value in in_a_process(__file__, side, *words, **sides[side]).items():
                    figures[f"{side} {size}"].append(value)
    median = {name: statistics.median(values) for name, values in figures.items()}
    for name, values in figures.items():
        print(
            f"{name}: {1 / median[name]:.1f} images/s (rounds: {', '.join(f'{1 / v:.1f}' for v in values)})"
        )
    config = compose(words)
    classes = len(load_sources(config)[0].classes)
    for size in (224, 180):
        rate = flop_per_image(config, classes, size) / median[f"sppcls {size}"] / 1e12
        share = f", {rate / args.peak:.1%} of the peak" if args.peak else ""
        print(f"sppcls {size}: {rate:.3g} TFLOP/s in convolutions and linear layers{share}")
    rows = [
        ratio_row(
            f"sppcls train, images/s at {size}, {label}",
            PEERS[args.peer],
            figures[f"{args.peer} {size}"],
            figures[f"sppcls {size}"],
            0.97 if args.peer == "bare" else 1.0,
        )
        for size in ("224", "180")
    ]
    both = figures["sppcls 180"], figures["sppcls 224"]
    rows.append(ratio_row(f"time of an epoch at 180, {label}", "at 224 (pixels: 0.646)", *both, 0.70, True))
    alone = figures["alone 180"], figures["alone 224"]
    rows.append(ratio_row(f"the network's steps alone at 180, {label}", "at 224", *alone))
    finish(rows, args)


if __name__ == "__main__":
    main()
