"""From the command to the first training step, beside the time that importing torch and Lightning takes alone.

    python benchmarks/startup.py [--rounds 5]

A run of one step on 32 small generated images: the time until its epoch is reported, so its step, its validation and its
first checkpoint are counted in; and beside what the packages that a run cannot do without take. Also `sppcls --help` and `python train.py --help`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Row, finish, parser, take_turns

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = ["data.num_train=32", "data.num_val=32", "data.workers=0", "trainer.max_epochs=1", "sizes=single_224",
       "backbone.width=0.0625", "head.hidden=[16]", "log.images=false"]  # fmt: skip


IMPORTS = "import torch, pytorch_lightning, torchvision, hydra"


def whole(*words: str) -> Callable[[], float]:
    """Seconds of a process."""

    def run() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    return run


def first_epoch(runs: str) -> Callable[[], float]:
    """Seconds until a run of one step reports it."""

    def run() -> float:
        started = time.perf_counter()
        words = [sys.executable, str(ROOT / "train.py"), *RUN, f"runs_dir={runs}"]
        with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seconds = next(
                time.perf_counter() - started for line in process.stdout if line.startswith("epoch 1/1")
            )
            process.communicate()
        return seconds

    return run


def _row(what: str, against: str, seconds: list[float], bar: float | None) -> Row:
    return Row(what, against, statistics.median(seconds), min(seconds), max(seconds), len(seconds), bar, True)


def rows(args: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as runs:
        sides = {
            "imports": whole("-c", "import torch, pytorch_lightning"),
            "all imports": whole("-c", IMPORTS),
            "run": first_epoch(runs),
            "sppcls --help": whole("-m", "sppcls.cli.main", "--help"),
            "train.py --help": whole(str(ROOT / "train.py"), "--help"),
        }
        take_turns(sides, 1)  # files come into the system's cache
        seconds = take_turns(sides, args.rounds)
    more = [a - b for a, b in zip(seconds["run"], seconds["imports"], strict=True)]
    print(", ".join(f"{name}: {statistics.median(values):.2f} s" for name, values in seconds.items()))
    return [
        _row("python train.py to its first step, seconds more", "import torch, pytorch_lightning", more, 3.0),
        _row("python train.py to its first step, seconds", "nothing", seconds["run"], 5.0),
        _row(f"{IMPORTS}, seconds", "nothing", seconds["all imports"], None),
        _row("sppcls --help, seconds", "nothing", seconds["sppcls --help"], 1.5),
        _row("python train.py --help, seconds", "nothing", seconds["train.py --help"], 1.5),
    ]


def main() -> None:
    args: argparse.Namespace = parser(__doc__, 5).parse_args()
    finish(rows(args), args)


if __name__ == "__main__":
    main()
