"""Memory of a training over twenty epochs at sizes in turn: the resident peak of each epoch over that of the first ones.

    python benchmarks/memory.py [--epochs 20] [--workers 2]

The training process and its loaders are looked at twenty times a second. The first two epochs, one at each size, are the
measure; the row is the largest later epoch over the larger of them. Generated images, the default network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Row, finish, parser

ROOT = Path(__file__).resolve().parent.parent


def resident(pid: int) -> float:
    """MiB of a process and its children, shared pages counted once for each (0 when it has ended)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(resident(int(child)) for child in children)


def main() -> None:
    arguments = parser(__doc__, 1)
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--workers", type=int, default=2)
    args = arguments.parse_args()
    peaks = [0.0] * (args.epochs + 1)
    with tempfile.TemporaryDirectory() as runs:
        words = [sys.executable, str(ROOT / "train.py"), f"trainer.max_epochs={args.epochs}", f"runs_dir={runs}",
                 "data.num_train=320", "data.num_val=96", f"data.workers={args.workers}"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                done = [len(p.read_text().splitlines()) - 1 for p in Path(runs).glob("*/*/metrics.csv")]
                epoch = max(0, *done) if done else 0
                peaks[epoch] = max(peaks[epoch], resident(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"benchmarks/memory.py: the training ended with status {process.returncode}")
    print("peak of each epoch, MiB: " + ", ".join(f"{peak:.0f}" for peak in peaks[: args.epochs]))
    ratio = max(peaks[2 : args.epochs]) / max(peaks[:2])
    what = f"resident peak of training, {args.workers} loaders, epochs 3 to {args.epochs}"
    finish([Row(what, "epochs 1 and 2", ratio, ratio, ratio, 1, 1.05, at_most=True)], args)


if __name__ == "__main__":
    main()
