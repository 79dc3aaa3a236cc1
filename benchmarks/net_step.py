"""Training steps of the full ZF-5 with SPP beside the same network built the obvious way, and beside one without LRN.

    python benchmarks/net_step.py [--rounds 5] [--batch-size 16] [--sizes 224,180]

A step is forward, loss, backward and SGD with momentum. The peer has ``nn.LocalResponseNorm`` (or, within channels, the
formula with ``avg_pool2d``), torch's default layout and four ``AdaptiveMaxPool2d`` that are concatenated. The ceiling is
our own network without normalisation. The floor is what both cannot do without: torch's convolutions and linear layers, each
alone, forward and backward, and the update of the weights; what it shares of our step, and how many times as fast as the
peer it is, bound the two bars. All have the same weights, images and number of threads. Ours keep freed memory, let
idle threads sleep and take torch's fused SGD, as ``sppcls train`` does on a CPU; the peer has torch's defaults.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial

import torch
import torch.nn.functional as F
from common import AS_TRAINING_DOES, Row, finish, in_a_process, parser, ratio_row, take_turns
from torch import Tensor, nn

from sppcls._util.allocator import keep_freed_memory
from sppcls.nn import LRNAcrossChannels, LRNWithinChannel, SPPClassifier, build_classifier

NORMS = ("lrn_within", "lrn_across")
WARM_UP = 2


class ObviousLRNWithin(nn.Module):
    """The formula, written down with a pooling."""

    def __init__(self, size: int, alpha: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.k = size, alpha, k

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x * x, self.size, 1, self.size // 2)
        return x / (self.k + self.alpha * mean) ** 0.75


class ObviousPyramid(nn.Module):
    """Four of torch's own poolings and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveMaxPool2d(n) for n in (6, 3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([pool(x).flatten(1) for pool in self.pools], dim=1)


def network(norm: str, width: float = 1.0, hidden: int = 4096) -> SPPClassifier:
    torch.manual_seed(0)
    return build_classifier(
        backbone={"name": "zf5", "norm": norm, "width": width},
        pyramid={"levels": [6, 3, 2, 1]},
        head={"name": "fc", "hidden": [hidden, hidden], "dropout": 0.5},
        num_classes=1000,
        input_size=(224, 224),
        init="paper",
    )


def obvious(norm: str, width: float = 1.0, hidden: int = 4096) -> nn.Module:
    """The same layers and weights with nothing of ours in them."""
    net = network(norm, width, hidden)
    layers: list[nn.Module] = []
    for layer in net.backbone.layers.children():
        if isinstance(layer, LRNAcrossChannels):
            layers.append(nn.LocalResponseNorm(layer.size, layer.alpha, 0.75, layer.k))
        elif isinstance(layer, LRNWithinChannel):
            layers.append(ObviousLRNWithin(layer.size, layer.alpha, layer.k))
        else:
            layers.append(layer)
    return nn.Sequential(*layers, ObviousPyramid(), net.head)


def seconds_per_step(
    net: nn.Module, size: int, batch_size: int, layout: torch.memory_format, fused: bool
) -> float:
    net = net.to(memory_format=layout).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, 3, size, size, generator=generator).contiguous(memory_format=layout)
    target = torch.randint(0, 1000, (batch_size,), generator=generator)
    seconds = []
    for _ in range(WARM_UP + 3):
        started = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(net(x), target).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return min(seconds[WARM_UP:])


def seconds_of_floor(net: SPPClassifier, size: int, batch_size: int) -> float:
    """Convolutions, linear layers and update, with nothing between them."""
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((layer, inputs[0].detach().requires_grad_(bool(seen)), torch.randn_like(output)))

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(keep)
    x = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        net(x)
    alone = list(seen)
    seconds = []
    for _ in range(WARM_UP + 3):
        started = time.perf_counter()
        optimizer.zero_grad()
        for layer, given, grad in alone:
            given.grad = None
            layer.forward(given).backward(grad)  # without the hook
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return min(seconds[WARM_UP:])


def measure(side: str, norm: str, size: int, batch_size: int, threads: int) -> float:
    torch.set_num_threads(threads)
    if side == "obvious":
        return seconds_per_step(obvious(norm), size, batch_size, torch.contiguous_format, fused=False)
    keep_freed_memory()
    net = network(norm if side == "sppcls" else "none")
    if side == "floor":
        return seconds_of_floor(net, size, batch_size)
    return seconds_per_step(net, size, batch_size, torch.channels_last, fused=True)


def rows(args: argparse.Namespace) -> list[Row]:
    found: list[Row] = []
    cores = "" if args.threads == torch.get_num_threads() else f", threads: {args.threads}"
    for norm in NORMS:
        for size in args.sizes:
            # Memory that one side keeps would help the next.
            sides = {}
            for side in ("sppcls", "obvious", "ceiling", "floor"):
                environment = {} if side == "obvious" else AS_TRAINING_DOES
                sides[side] = partial(
                    in_a_process, __file__, side, norm, size, args.batch_size, args.threads, **environment
                )
            seconds = take_turns(sides, args.rounds)
            what = f"training step, ZF-5 + SPP, {norm}, {size}, batch {args.batch_size}{cores}"
            rate = args.batch_size / min(seconds["sppcls"])
            print(f"{what}: at best {rate:.1f} images/s", flush=True)
            found.append(
                ratio_row(what, "built and run the obvious way", seconds["obvious"], seconds["sppcls"], 2.5)
            )
            found.append(ratio_row(what, "without LRN", seconds["ceiling"], seconds["sppcls"], 0.85))
            floor = "convolutions, linear layers and update alone"
            found.append(ratio_row(what, floor, seconds["floor"], seconds["sppcls"]))
            found.append(
                ratio_row(
                    f"{floor}, {what}", "built and run the obvious way", seconds["obvious"], seconds["floor"]
                )
            )
    return found


def main() -> None:
    arguments = parser(__doc__, 5)
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--sizes", type=lambda text: [int(s) for s in text.split(",")], default=[224, 180])
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(torch's choice)")
    arguments.add_argument("--side", nargs=5, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.side:
        side, norm, *numbers = args.side
        print(json.dumps(measure(side, norm, *map(int, numbers))))
    else:
        finish(rows(args), args)


if __name__ == "__main__":
    main()
