"""A sweep of twelve runs, once undisturbed and once killed in the middle and started again.

    python benchmarks/sweep.py

Says whether any finished run was repeated, whether both end with the same table and the same weights, and how the peak
memory of the runs' processes goes from the first to the last. Generated images, two epochs each: minutes on 2 cores.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import Row, finish
from common import parser as arguments

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["data.num_train=96", "data.num_val=40", "data.batch_size=16", "data.workers=0", "backbone.width=0.0625",
         "head.hidden=[16]", "sizes.sizes=[96,72]", "trainer.max_epochs=2", "trainer.accelerator=cpu",
         "trainer.threads=1", "log.images=false", "pyramid=l6321,l4321,l421,l321", "seed=0,1,2"]  # fmt: skip


def start(runs: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, str(ROOT / "train.py"), "-m", *WORDS, f"runs_dir={runs}", "name=twelve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environment)


def finished(sweep: Path) -> dict[str, int]:
    """When the last checkpoint of each finished run was written, ns."""
    return {p.parent.name: (p.parent / "last.ckpt").stat().st_mtime_ns for p in sweep.glob("*/result.json")}


def table(sweep: Path) -> list[dict[str, str]]:
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_weights(one: Path, other: Path) -> bool:
    a, b = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main() -> None:
    parser = arguments(__doc__, 1)
    parser.add_argument("--kill-after", type=int, default=5, help="finished runs before the kill (5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        assert start(whole).wait() == 0
        process = start(killed)
        while len(finished(killed / "twelve")) < options.kill_after:
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = finished(killed / "twelve")
        time.sleep(20)  # the run that was left alone saves and stops
        before.update({name: at for name, at in finished(killed / "twelve").items() if name not in before})
        assert start(killed).wait() == 0
        after = finished(killed / "twelve")
        rows, again = table(whole / "twelve"), table(killed / "twelve")
        timeless = [[{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mib")} for row in t] for t in (rows, again)]  # fmt: skip
        names = [row["job"] for row in rows]
        print(f"runs finished before the kill       {len(before)} of {len(rows)}")
        print(f"of these repeated                   {sum(after[name] != at for name, at in before.items())}")
        print(f"tables equal, times apart           {timeless[0] == timeless[1]}")
        equal = sum(same_weights(whole / "twelve" / name, killed / "twelve" / name) for name in names)
        print(f"runs with the same final weights    {equal} of {len(names)}")
        memory = [int(row["peak_memory_mib"]) for row in rows]
        print(f"peak memory of the runs, MiB        {', '.join(map(str, memory))}")
    ratio = memory[-1] / memory[0]
    finish(
        [Row("peak memory, job 12 of a sweep", "job 1", ratio, ratio, ratio, 1, 1.05, at_most=True)], options
    )


if __name__ == "__main__":
    main()
