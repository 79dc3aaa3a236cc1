"""Images per second of ``sppcls train`` over a bare PyTorch loop with the same network, images and batches; and the
time of a 180 epoch over that of a 224 epoch.

    python benchmarks/train_loop.py [--data-root FOLDER [--cache]] [--full] [--rounds 3]

Both sides train the default small ZF-5 (``--full``: ZF-5 as in the paper, 12 steps of 64 images an epoch) with the default
loader settings; they take turns, an epoch at 224 and one at 180 each, and the medians over the rounds are reported. The peer is the loop that one would write by hand around a torch
DataLoader with torchvision transforms that decode, cut and resize per image, in channels_last.
"""

from __future__ import annotations

import csv
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from common import finish, ratio_row
from common import parser as arguments
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sppcls import compose, train
from sppcls.building import build_network, load_sources
from sppcls.config import Config
from sppcls.data import Source


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


def bare_loop(config: Config, source: Source) -> dict[str, float]:
    """Seconds per image of one epoch at each size."""
    torch.manual_seed(0)
    net = build_network(config, len(source.classes)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    seconds = {}
    for size in (224, 180):
        loader = DataLoader(
            Images(source, config, size), config.data.batch_size, shuffle=True, drop_last=True,
            num_workers=config.data.workers, persistent_workers=config.data.workers > 0,
        )  # fmt: skip
        count, started = 0, 0.0
        for step, (x, target) in enumerate(itertools.islice(loader, config.trainer.limit_train_batches)):
            if step == 1:  # the first step warms up, as in sppcls's own figure
                started = time.perf_counter()
            loss = F.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(target) if step else 0
        seconds[str(size)] = (time.perf_counter() - started) / count
    return seconds


def with_sppcls(config: Config) -> dict[str, float]:
    """The same from ``metrics.csv`` of a real run."""
    folder = Path(train(config)["folder"])
    with open(folder / "metrics.csv", newline="") as file:
        return {row["size"]: 1 / float(row["images_per_s"]) for row in csv.DictReader(file)}


def main() -> None:
    parser = arguments(__doc__, 3)
    parser.add_argument("--data-root", help="folder with train/ and val/; default: the generated images")
    parser.add_argument("--cache", action="store_true", help="with data.cache=disk (needs --data-root)")
    parser.add_argument("--full", action="store_true", help="the paper's ZF-5 and head, on batches of 64")
    args = parser.parse_args()
    data = ["data=folder", f"data.root={args.data_root}"] if args.data_root else []
    label = Path(args.data_root).name if args.data_root else "generated images"
    if args.full:
        data += ["backbone=zf5", "head=fc", "data.batch_size=64", "trainer.limit_train_batches=12"]
        label += ", full ZF-5"
    figures: dict[str, list[float]] = {"sppcls 224": [], "sppcls 180": [], "bare 224": [], "bare 180": []}
    with tempfile.TemporaryDirectory() as folder:
        if args.cache:
            data += ["data.cache=disk", f"data.cache_dir={folder}/cache"]
            label += ", data.cache=disk"
        for _ in range(args.rounds):
            config = compose([*data, "augment=anywhere", "trainer.max_epochs=2", "trainer.val_every=2",
                              "trainer.limit_val_batches=1", f"runs_dir={folder}", "log.images=false"])  # fmt: skip
            for side, seconds in (
                ("sppcls", with_sppcls(config)),
                ("bare", bare_loop(config, load_sources(config)[0])),
            ):
                for size, value in seconds.items():
                    figures[f"{side} {size}"].append(value)
    median = {name: statistics.median(values) for name, values in figures.items()}
    for name, values in figures.items():
        print(
            f"{name}: {1 / median[name]:.1f} images/s (rounds: {', '.join(f'{1 / v:.1f}' for v in values)})"
        )
    rows = [
        ratio_row(
            f"sppcls train, images/s at {size}, {label}",
            "a bare loop",
            figures[f"bare {size}"],
            figures[f"sppcls {size}"],
            0.97,
        )
        for size in ("224", "180")
    ]
    both = figures["sppcls 180"], figures["sppcls 224"]
    rows.append(ratio_row(f"time of an epoch at 180, {label}", "at 224 (pixels: 0.646)", *both, 0.70, True))
    finish(rows, args)


if __name__ == "__main__":
    main()
