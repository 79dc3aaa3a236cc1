"""Which networks learn at their default settings: first and last loss of every backbone, head, pyramid and optimizer.

    python benchmarks/learning_grid.py --data-root PHOTOS --json after.json
    python benchmarks/learning_grid.py --data-root PHOTOS --json after.json --before before.json

A cell trains a few steps from scratch with the values of ``conf/`` at 64 pixels: batch 16, rate as configured after a
warm-up of ten steps, centre crops mirrored at random. Costly trunks take fewer steps; the table has the number. Without
``--data-root`` the images are generated ones, as many as are needed.

The first loss is that of the first step, the last one the mean of the last five. A cell is marked

- ``start``: the first loss is more than 0.5 from that of guessing, ln(classes);
- ``high``: some step has more than twice the loss of guessing;
- ``level``: the last loss is not below that of guessing;
- ``slower``: the last loss is more than 0.3 above that of the same cell with ``pyramid=none``, the trunk's own pooling.

By default every backbone has four combinations; ``--all`` trains every one, which takes hours on a CPU.
``--json`` keeps the cells that are done, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from common import machine
from torch import Tensor
from torch.nn import functional as F

from sppcls import compose
from sppcls.config.build import build_network, load_sources
from sppcls.config.compose import conf_dir
from sppcls.data import EvalTransform, prepare_batch
from sppcls.engine.optimizer import make_optimizer

SIDE, BATCH, WARMUP = 64, 16, 10
CHEAP = ("alexnet", "mobilenet_v3_small", "zf5", "zf5_small")
MEDIUM = ("convnet_star5", "efficientnet_b0", "mobilenet_v3_large", "resnet18")
HEADS = ("linear", "fc_small", "fc")
# Head, pyramid and optimizer of the cells that every backbone has without --all.
SHORT = (
    ("linear", "none", "sgd"),
    ("linear", "l4321", "sgd"),
    ("linear", "l4321", "adamw"),
    ("fc_small", "l6321", "sgd"),
)


@dataclass(frozen=True)
class Cell:
    backbone: str
    head: str
    pyramid: str
    optimizer: str

    @property
    def steps(self) -> int:
        steps = 60 if self.backbone in (*CHEAP, *MEDIUM) else 40
        return steps // 2 if self.head == "fc" else steps

    @property
    def words(self) -> list[str]:
        values = {
            "optimizer": self.optimizer,
            "backbone": self.backbone,
            "head": self.head,
            "pyramid": self.pyramid,
        }
        return [f"{group}={choice}" for group, choice in values.items()]


@dataclass(frozen=True)
class Found:
    first: float
    worst: float
    last: float
    """NaN if a loss was not finite."""
    steps: int

    def marks(self, guessing: float, plain: Found | None) -> str:
        slower = plain is not None and not self.last <= plain.last + 0.3
        marks = {
            "start": not abs(self.first - guessing) <= 0.5,
            "high": not self.worst <= 2 * guessing,
            "level": not self.last < guessing,
            "slower": slower,
        }
        return " ".join(name for name, wrong in marks.items() if wrong)


def cells(everything: bool) -> Iterator[Cell]:
    """The combinations, column by column; a fully-convolutional head has no pyramid."""
    names = {
        group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))
        for group in ("backbone", "pyramid")
    }
    backbones = [name for name in names["backbone"] if name != "timm"]
    columns = list(SHORT)
    if everything:
        pairs = [*((head, pyramid) for head in HEADS for pyramid in names["pyramid"]), ("conv", "none")]
        columns += [(*pair, optimizer) for optimizer in ("sgd", "adamw") for pair in pairs]
    for column in dict.fromkeys(columns):
        yield from (Cell(backbone, *column) for backbone in backbones)


def load(root: str | None, count: int) -> tuple[Tensor, Tensor, int]:
    """Normalised images (N, 3, side, side), their classes in random order, and the number of classes."""
    data = (
        ["data=shapes", f"data.num_train={count}"] if root is None else ["data=folder", f"data.root={root}"]
    )
    config = compose(data)
    source = load_sources(config)[0]
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:count].tolist()
    view = EvalTransform((SIDE, SIDE))
    regions = torch.stack([view(source.image(i)) for i in order])
    images = prepare_batch(regions, (SIDE, SIDE), config.data.mean, config.data.std)
    return images, torch.tensor([source.targets[i] for i in order]), len(source.classes)


def train(cell: Cell, images: Tensor, targets: Tensor, classes: int, steps: int) -> Found:
    """The losses of a few steps from scratch."""
    config = compose([*cell.words, "sizes=single_224", f"sizes.sizes=[{SIDE}]"])
    torch.manual_seed(0)
    net = build_network(config, classes).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(net, config.optimizer)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.lr * group["lr_scale"] * min(1.0, (step + 1) / WARMUP)
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        batch = images[chosen]
        mirrored = torch.rand(BATCH) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
        loss = F.cross_entropy(net(batch.contiguous(memory_format=torch.channels_last)), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
    last = sum(losses[-5:]) / len(losses[-5:])
    return Found(losses[0], max(losses), last if math.isfinite(last) else math.nan, len(losses))


def read(path: Path | None) -> dict[Cell, Found]:
    if path is None or not path.exists():
        return {}
    return {Cell(*name.split()): Found(**found) for name, found in json.loads(path.read_text()).items()}


def show(found: dict[Cell, Found], before: dict[Cell, Found], guessing: float) -> str:
    """A Markdown table, a line for each cell."""

    def columns(results: dict[Cell, Found], cell: Cell) -> list[str]:
        if cell not in results:
            return ["", "", "", ""]
        own = results[cell]
        plain = results.get(Cell(cell.backbone, cell.head, "none", cell.optimizer))
        return [*(f"{value:.3g}" for value in (own.first, own.worst, own.last)), own.marks(guessing, plain)]

    names = ["backbone", "head", "pyramid", "optimizer", "steps"]
    header = [
        *names,
        *(["before: first", "highest", "last", ""] if before else []),
        "first",
        "highest",
        "last",
        "",
    ]
    rows = [header, ["---"] * len(header)]
    for cell in sorted(
        found, key=lambda cell: (cell.backbone, cell.head, cell.optimizer, cell.pyramid != "none")
    ):
        row = [*asdict(cell).values(), str(found[cell].steps)]
        rows.append([*row, *(columns(before, cell) if before else []), *columns(found, cell)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", help="a folder of photos; without it generated images")
    parser.add_argument("--all", action="store_true", help="every combination")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep the cells here; those already there are not trained again",
    )
    parser.add_argument("--before", type=Path, metavar="FILE", help="cells of other code, shown beside these")
    parser.add_argument("--steps", type=int, default=60, help="at most so many steps a cell (60)")
    args = parser.parse_args()
    images, targets, classes = load(args.data_root, 60 * BATCH)
    found = read(args.json)
    for cell in cells(args.all):
        if cell in found:
            continue
        started = time.perf_counter()
        found[cell] = train(cell, images, targets, classes, min(args.steps, cell.steps))
        own = found[cell]
        print(
            *asdict(cell).values(),
            f"{own.first:.3g} {own.worst:.3g} {own.last:.3g}",
            f"{time.perf_counter() - started:.1f} s",
            flush=True,
        )
        if args.json:
            args.json.write_text(
                json.dumps(
                    {" ".join(asdict(cell).values()): asdict(one) for cell, one in found.items()}, indent=1
                )
                + "\n"
            )
    guessing = math.log(classes)
    print(f"\n{machine()}; {len(images)} images of {classes} classes, guessing {guessing:.2f}\n")
    print(show(found, read(args.before), guessing))


if __name__ == "__main__":
    main()
