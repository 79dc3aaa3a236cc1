"""The pyramid layer, forward and backward, beside torch's own adaptive poolings and a concatenation.

    python benchmarks/spp_layer.py [--rounds 7] [--device cpu] [--dtype float32]

Levels 6, 3, 2, 1 on the maps of the paper's networks, in both memory layouts. On a CPU both sides have freed memory kept, as in
``sppcls train``; otherwise most of the time would go to the system, which gives them zeroed pages. On a GPU the bar is 3 times
as fast, and within 1.5 times of what copying takes: forward and backward each read and write a map and a vector once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import Row, finish, parser, ratio_row, take_turns
from torch import Tensor

from sppcls._util.allocator import keep_freed_memory
from sppcls.nn import spatial_pyramid_pool2d

LEVELS = (6, 3, 2, 1)
MAPS = {(64, 256, 13, 13): 1.5, (64, 256, 10, 10): 1.5, (64, 512, 18, 18): 2.0}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def stock(x: Tensor) -> Tensor:
    """The peer."""
    return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in LEVELS], dim=1)


def ours(x: Tensor) -> Tensor:
    return spatial_pyramid_pool2d(x, LEVELS)


def timed(pool: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, repeats: int) -> Callable[[], float]:
    """Seconds of ``repeats`` forward and backward passes."""

    def run() -> float:
        _synchronize(x)
        started = time.perf_counter()
        for _ in range(repeats):
            x.grad = None
            pool(x).backward(grad)
        _synchronize(x)
        return time.perf_counter() - started

    return run


def copied(values: int, like: Tensor, repeats: int) -> Callable[[], float]:
    """Seconds of ``repeats`` copies, each of which reads and writes so many values: as much as forward and backward."""
    source = torch.empty(values, dtype=like.dtype, device=like.device)
    target = torch.empty_like(source)

    def run() -> float:
        _synchronize(like)
        started = time.perf_counter()
        for _ in range(repeats):
            target.copy_(source)
        _synchronize(like)
        return time.perf_counter() - started

    return run


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def rows(args: argparse.Namespace) -> list[Row]:
    found = []
    generator = torch.Generator().manual_seed(0)
    for shape, bar in MAPS.items():
        for name, layout in LAYOUTS.items():
            # Behind a ReLU, as in the networks.
            x = (
                torch.randn(shape, generator=generator)
                .relu_()
                .to(args.device, getattr(torch, args.dtype))
                .contiguous(memory_format=layout)
            )
            x.requires_grad_()
            grad = torch.randn(shape[0], 50 * shape[1], generator=generator).to(args.device, x.dtype)
            sides: dict[str, Callable[[], float]] = {
                "ours": timed(ours, x, grad, args.repeats),
                "stock": timed(stock, x, grad, args.repeats),
            }
            if x.is_cuda:
                sides["copy"] = copied(x.numel() + grad.numel(), x, args.repeats)
            take_turns(sides, 1)
            seconds = take_turns(sides, args.rounds)
            dtype = "" if args.dtype == "float32" else f"{args.dtype}, "
            what = f"SPP 6-3-2-1 on {shape}, {dtype}{name}, forward and backward"
            bar = 3.0 if x.is_cuda else bar
            found.append(ratio_row(what, "4 adaptive poolings", seconds["stock"], seconds["ours"], bar))
            if x.is_cuda:
                found.append(ratio_row(what, "copying as much", seconds["ours"], seconds["copy"], 1.5, True))
    return found


def main() -> None:
    arguments = parser(__doc__, 7)
    arguments.add_argument("--repeats", type=int, default=5, help="passes in a turn (5)")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    arguments.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (float32)")
    args = arguments.parse_args()
    if args.device == "cpu":
        keep_freed_memory()
    finish(rows(args), args)


if __name__ == "__main__":
    main()
