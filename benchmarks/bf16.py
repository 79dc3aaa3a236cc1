"""bf16-mixed beside 32-true on a CPU: time of a training step and of a prediction, and the errors that training ends at.

    python benchmarks/bf16.py [--rounds 5] [--batch-size 32] [--nets zf5_small,zf5,resnet18]
    python benchmarks/bf16.py --data-root PHOTOS [--seeds 0,1,2] [KEY=VALUE ...]

The first command measures speed. A step is forward, loss, backward and SGD with momentum under the autocast that Lightning
uses for ``trainer.precision=bf16-mixed``; a prediction is a forward pass without gradients. The second trains every seed in
both precisions (8 epochs at 112 and 90 in turn, or what the words say) and compares the errors of pairs with one seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import AS_TRAINING_DOES, Row, finish, in_a_process, parser, ratio_row, take_turns

from sppcls import compose, train
from sppcls._util.allocator import keep_freed_memory
from sppcls.nn import build_classifier

HEADS: dict[str, dict[str, Any]] = {
    "zf5_small": {"name": "fc", "hidden": [256, 256], "dropout": 0.5},
    "zf5": {"name": "fc", "hidden": [4096, 4096], "dropout": 0.5},
    "resnet18": {"name": "linear"},
}
WARM_UP = 2


def seconds(what: str, net_name: str, precision: str, size: int, batch_size: int) -> float:
    """Seconds of the fastest of three training steps or predictions."""
    keep_freed_memory()
    torch.manual_seed(0)
    backbone = (
        {"name": "zf5", "width": 0.25, "norm": "batch"} if net_name == "zf5_small" else {"name": net_name}
    )
    net = build_classifier(
        backbone=backbone,
        pyramid={"levels": [6, 3, 2, 1]},
        head=HEADS[net_name],
        num_classes=100,
        input_size=(size, size),
        init="modern",
    ).to(memory_format=torch.channels_last)
    training = what == "training step"
    net.train(training)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    x = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, 100, (batch_size,))
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
    found = []
    for _ in range(WARM_UP + 3):
        started = time.perf_counter()
        with torch.set_grad_enabled(training), mixed:
            logits = net(x)
            loss = F.cross_entropy(logits.float(), target)
        if training:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append(time.perf_counter() - started)
    return min(found[WARM_UP:])


def speed(args: argparse.Namespace) -> list[Row]:
    rows = []
    for net in args.nets:
        for what in ("training step", "prediction"):
            for size in args.sizes:
                sides = {
                    precision: partial(
                        in_a_process,
                        __file__,
                        what,
                        net,
                        precision,
                        size,
                        args.batch_size,
                        **AS_TRAINING_DOES,
                    )
                    for precision in ("32-true", "bf16-mixed")
                }
                found = take_turns(sides, args.rounds)
                label = f"{what}, {net} + SPP, {size}, batch {args.batch_size}, bf16-mixed"
                bar = 1.5 if what == "training step" else None
                rows.append(ratio_row(label, "32-true", found["32-true"], found["bf16-mixed"], bar))
                print(f"{label}: {rows[-1].ratio:.2f} times as fast", flush=True)
    return rows


def errors(args: argparse.Namespace) -> None:
    """Train every seed in both precisions; print the errors at every size and the differences of the pairs."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(
                "data=folder",
                f"data.root={args.data_root}",
                "data.cache=disk",
                f"data.cache_dir={folder}/cache",
            ),
            *("sizes.sizes=[112,90]", "trainer.max_epochs=8", "trainer.threads=1", "data.workers=1"),
            *("augment=anywhere", "log.images=false", f"runs_dir={folder}/runs", *args.words),
        ]
        for seed in args.seeds:
            for precision in ("32-true", "bf16-mixed"):
                done = train(
                    compose([*words, f"seed={seed}", f"trainer.precision={precision}", f"name={precision}"])
                )
                for name, value in done["last"].items():
                    if name.endswith("/top1_error"):
                        found.setdefault(name, {}).setdefault(precision, []).append(value)
                        print(f"seed {seed}, {precision}, {name}: {value:.2f} %", flush=True)
    for name, sides in found.items():
        differences = [b - a for a, b in zip(sides["32-true"], sides["bf16-mixed"], strict=True)]
        for precision, values in sides.items():
            print(f"{name}, {precision}: {statistics.mean(values):.2f} ± {_spread(values):.2f} %")
        print(
            f"{name}, bf16-mixed minus 32-true: {statistics.mean(differences):+.2f} ± {_spread(differences):.2f}"
        )


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    arguments = parser(__doc__, 5)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--sizes", type=lambda text: [int(s) for s in text.split(",")], default=[224, 180])
    arguments.add_argument("--nets", type=lambda text: text.split(","), default=list(HEADS))
    arguments.add_argument("--data-root", help="folder of photos: compare errors rather than times")
    arguments.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    arguments.add_argument("--side", nargs=5, help=argparse.SUPPRESS)
    arguments.add_argument("words", nargs="*", metavar="KEY=VALUE", help="config of both sides (--data-root)")
    args = arguments.parse_args()
    if args.side:
        what, net, precision, size, batch_size = args.side
        print(json.dumps(seconds(what, net, precision, int(size), int(batch_size))))
    elif args.data_root:
        errors(args)
    else:
        finish(speed(args), args)


if __name__ == "__main__":
    main()
