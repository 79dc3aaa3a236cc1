"""What only a machine with a GPU can measure, in at most twelve minutes, and its table.

    python benchmarks/gpu.py --data-root PHOTOS [--out results/benchmarks_gpu.md]
    python benchmarks/gpu.py --dry [--out FILE]

PHOTOS has train/ and val/ with a folder for each class. The rows: the pyramid layer beside torch's poolings and a copy; a
training step of the full ZF-5 with SPP beside the same network built the obvious way, in float32 and in bf16, and compiled
beside not compiled; ``train.py`` beside a bare loop; and a training of the full ZF-5 at 224 and 180 in turn. Each part has
its share of the minutes; one that fails or takes longer is named under the table, and the rest goes on. ``--dry`` goes through
all parts on a CPU with the smallest networks, to see that they work: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from all import markdown
from common import Row, machine, ratio_row, show, take_turns
from net_step import network, obvious
from torch import nn

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path[1:]])}
SIDES = {
    "obvious, float32": ("obvious", "float32", False),
    "ours, float32": ("ours", "float32", False),
    "obvious, bf16": ("obvious", "bf16", False),
    "ours, bf16": ("ours", "bf16", False),
    "ours, bf16, compiled": ("ours", "bf16", True),
}


def rates(norm: str, dry: bool) -> dict[str, list[float]]:
    """Images per second of every side, in two turns."""
    widths: dict[str, Any] = {"width": 0.0625, "hidden": 16} if dry else {}

    def of_side(side: str) -> float:
        """Training steps of ZF-5 with SPP on images that are there already; the median of some tens."""
        which, precision, compiled = SIDES[side]
        device = torch.device("cpu" if dry else "cuda")
        batch, size, steps = (2, 96, 1) if dry else (128, 224, 30)
        layout = torch.contiguous_format if which == "obvious" else torch.channels_last
        made: nn.Module = (obvious if which == "obvious" else network)(norm, **widths)
        net = made.to(device).to(memory_format=layout).train()
        forward: Any = torch.compile(net, backend="eager" if dry else "inductor") if compiled else net
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        optimizer = torch.optim.SGD(
            net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=which == "ours"
        )
        x = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=layout)
        target = torch.randint(0, 1000, (batch,), device=device)
        seconds = []
        for _ in range(steps + 3):
            started = time.perf_counter()
            with mixed:
                loss = F.cross_entropy(forward(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not dry:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return batch / statistics.median(seconds[3:])

    return take_turns({side: partial(of_side, side) for side in SIDES}, 1 if dry else 2)


def steps(args: argparse.Namespace, seconds: float) -> list[Row]:
    """Training steps."""
    rows = []
    for norm in ("lrn_within",) if args.dry else ("lrn_within", "lrn_across"):
        command = [sys.executable, __file__, "--norm", norm, *["--dry"] * args.dry]
        done = subprocess.run(
            command, env=ENVIRONMENT, check=True, timeout=seconds / 2, stdout=subprocess.PIPE, text=True
        )
        rate = json.loads(done.stdout.splitlines()[-1])
        what = f"training step, ZF-5 + SPP, {norm}, 224, batch 128"
        for name, values in rate.items():
            print(f"{what}, {name}: {statistics.median(values):.0f} images/s", flush=True)
        for top, below in (
            ("ours, float32", "obvious, float32"),
            ("ours, bf16", "obvious, bf16"),
            ("ours, bf16", "ours, float32"),
            ("ours, bf16, compiled", "ours, bf16"),
        ):
            rows.append(ratio_row(f"{what}: {top}", below, rate[top], rate[below]))
    return rows


def script(name: str, *words: str, seconds: float) -> list[Row]:
    """The rows of another benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / name), *words, "--json", str(kept)]
        subprocess.run(command, env=ENVIRONMENT, check=True, timeout=seconds)
        return [Row(**row) for row in json.loads(kept.read_text())]


def layer(args: argparse.Namespace, seconds: float) -> list[Row]:
    dry = ["--repeats", "1", "--rounds", "1"] if args.dry else []
    device = "cpu" if args.dry else "cuda"
    return [
        row
        for dtype in ("float32", "bfloat16")
        for row in script("spp_layer.py", "--device", device, "--dtype", dtype, *dry, seconds=seconds / 2)
    ]


SMALL = ["trainer.accelerator=cpu", "trainer.compile=false", "backbone.width=0.0625", "head.hidden=[16]", "data.num_train=64",
         "data.num_val=32", "data.batch_size=16", "data.workers=0"]  # fmt: skip


def loop(args: argparse.Namespace, seconds: float) -> list[Row]:
    """``train.py`` beside a bare loop, in the arithmetic and compiled as ``trainer=gpu`` says."""
    if args.dry:
        return script("train_loop.py", "--rounds", "1", *SMALL, seconds=seconds)
    words = [
        "trainer=gpu",
        "backbone=zf5",
        "head=fc",
        "data.batch_size=128",
        f"data.workers={min(8, os.cpu_count() or 1)}",
    ]
    return script(
        "train_loop.py", "--data-root", args.data_root, "--cache", "--rounds", "1", *words, seconds=seconds
    )


def training(args: argparse.Namespace, seconds: float) -> list[Row]:
    """The full ZF-5 at 224 and 180 in turn: images per second of its epochs, and the error that it ends at."""
    words = ["trainer.max_epochs=2", *SMALL]
    if not args.dry:
        words = ["trainer=gpu", "backbone=zf5", "head=fc", "data=folder", f"data.root={args.data_root}", "data.cache=disk",
                 "trainer.max_epochs=20", f"data.workers={min(8, os.cpu_count() or 1)}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        words += [f"runs_dir={folder}", "name=gpu", "run_name=net", "log.images=false"]
        words += [] if args.dry else [f"data.cache_dir={folder}/cache"]
        command = [sys.executable, str(HERE.parent / "train.py"), *words]
        subprocess.run(command, env=ENVIRONMENT, check=True, timeout=seconds)
        with open(Path(folder) / "gpu" / "net" / "metrics.csv", newline="") as file:
            epochs = list(csv.DictReader(file))
    what = f"full ZF-5 + SPP, 224 and 180 in turn, {len(epochs)} epochs"
    rows = []
    for size in ("224", "180"):
        # The first epoch of a size compiles.
        rates = [float(row["images_per_s"]) for row in epochs if row["size"] == size]
        rates = rates[1:] or rates
        middle = statistics.median(rates)
        rows.append(Row(f"{what}: images/s at {size}", "", middle, min(rates), max(rates), len(rates), None))
    error = float(epochs[-1]["val_224/top1_error"])
    rows.append(Row(f"{what}: top-1 error at 224, %", "", error, error, error, 1, None))
    return rows


PARTS = {"layer": (layer, 100), "steps": (steps, 240), "loop": (loop, 180), "training": (training, 180)}
"""With the seconds that they may take: twelve minutes in all, with the start."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", metavar="PHOTOS")
    parser.add_argument("--out", type=Path, help="write the table here, as Markdown")
    parser.add_argument("--dry", action="store_true", help="everything once, as small as can be, on a CPU")
    parser.add_argument("--norm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.norm:
        print(json.dumps(rates(args.norm, args.dry)))
        return
    if not args.dry and not (torch.cuda.is_available() and args.data_root):
        raise SystemExit("benchmarks/gpu.py: needs a GPU that torch sees, and --data-root PHOTOS (or --dry)")
    args.data_root = args.data_root and str(Path(args.data_root).resolve())
    rows: list[Row] = []
    failed = []
    for name, (part, seconds) in PARTS.items():
        print(f"\n== {name}", flush=True)
        try:
            rows += part(args, seconds)
        except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
            failed.append(f"{name} ({type(error).__name__})")
    print(f"\n{machine()}\n\n{show(rows)}")
    if args.out:
        text = markdown(rows, "gpu.py --dry" if args.dry else "gpu.py --data-root PHOTOS")
        dry = "\nA dry run: its figures mean nothing.\n" if args.dry else ""
        missing = f"\nFailed or took too long: {', '.join(failed)}.\n" if failed else ""
        args.out.write_text(text + dry + missing)
    if failed:
        raise SystemExit(f"benchmarks/gpu.py: without {', '.join(failed)}")


if __name__ == "__main__":
    main()
