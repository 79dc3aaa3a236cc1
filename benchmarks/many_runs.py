"""Time and memory of ``sppcls compare`` and ``sppcls board`` over many runs, per run.

    python benchmarks/many_runs.py [--counts 10,100,1000] [--images 400] [--epochs 20] [--rounds 3]

The runs are made up: folders as a training leaves them, with a config, metrics.csv, result.json and the answers to the
validation images, drawn at random. They are of two size schedules and up to five pyramids; the rest of the number are seeds.
Each measurement is a process of its own; memory is its resident peak. ``board`` writes the log folder, and does not start TensorBoard.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from common import finish, in_a_process, parser, ratio_row

from sppcls.comparison import compare
from sppcls.comparison.board.logdir import write_board
from sppcls.comparison.report.write import write_report
from sppcls.evaluation import Predictions

CLASSES = 8
SIZES = {"single": [224], "alternate": [224, 180]}
PYRAMIDS = [[6, 3, 2, 1], [4, 3, 2, 1], [3, 2, 1], [2, 1], [1]]


def write_runs(folder: Path, count: int, images: int, epochs: int) -> None:
    """``count`` run folders: at least five seeds of each group, and at most ten groups."""
    arms = [(kind, levels) for levels in PYRAMIDS for kind in SIZES][: max(2, min(10, count // 5))]
    for number in range(count):
        kind, levels = arms[number % len(arms)]
        write_run(folder / f"run{number:04}", number // len(arms), kind, levels, images, epochs)


def write_run(folder: Path, seed: int, kind: str, levels: list[int], images: int, epochs: int) -> None:
    sizes = SIZES[kind]
    config = {
        "name": "many", "run_name": folder.name, "seed": seed, "data": {"name": "folder", "root": "photos"},
        "sizes": {"kind": kind, "sizes": sizes}, "pyramid": {"levels": levels}, "trainer": {"max_epochs": epochs},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML, too
    generator = np.random.default_rng([seed, len(sizes), len(levels)])
    last = {}
    for size in sizes:
        right = generator.random(images) < 0.7
        top = np.tile(np.arange(CLASSES), (images, 1))
        top[~right, :2] = [1, 0]
        last[f"val_{size}/top1_error"] = 100 * float((~right).mean())
        answers = Predictions(
            protocol="center", setting={"size": str(size), "average": "softmax"}, classes=[f"class {i}" for i in range(CLASSES)],
            indices=np.arange(images), names=[f"val/{i:05}.jpg" for i in range(images)], labels=np.zeros(images, np.int64),
            top_class=top, top_score=np.full((images, CLASSES), 1 / CLASSES, np.float32), scores=None, views=1, seconds=1.0,
        )  # fmt: skip
        (folder / "predictions").mkdir(exist_ok=True)
        answers.save(folder / "predictions" / f"val_{size}.npz")
    lines = [",".join(["epoch", "images_seen", "pixels_seen", "train_seconds", "size", *last])]
    for epoch in range(epochs):
        size = sizes[epoch % len(sizes)]
        seen = 1000 * (epoch + 1)
        errors = [value + epochs - 1 - epoch for value in last.values()]
        lines.append(",".join(map(str, [epoch, seen, seen * size * size, 5 * (epoch + 1), size, *errors])))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    result = {
        "sppcls": "0.2.0", "device": "CPU", "epochs": epochs, "parameters": 10**6, "main_size": "224", "last": last, "protocols": {},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))


def measure(what: str, folder: Path) -> dict[str, float]:
    """Seconds of one command, without imports, and the peak memory of its process in MiB."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        comparison = compare([folder])
        if what == "compare":
            write_report(comparison, Path(out) / "report")
        else:
            write_board(comparison, Path(out) / "board")
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    arguments = parser(__doc__, 3)
    arguments.add_argument(
        "--counts", type=lambda text: [int(n) for n in text.split(",")], default=[10, 100, 1000]
    )
    arguments.add_argument("--images", type=int, default=400, help="validation images of a run (400)")
    arguments.add_argument("--epochs", type=int, default=20, help="epochs of a run (20)")
    arguments.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.side:
        print(json.dumps(measure(args.side[0], Path(args.side[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in args.counts:
            write_runs(Path(folder) / str(count), count, args.images, args.epochs)
        for what in ("compare", "board"):
            per_run: dict[int, list[float]] = {count: [] for count in args.counts}
            for _ in range(args.rounds):
                for count in args.counts:
                    found = in_a_process(__file__, what, Path(folder) / str(count))
                    per_run[count].append(found["seconds"] / count)
                    print(
                        f"{what}, {count} runs: {found['seconds']:.1f} s, {found['memory']:.0f} MiB",
                        flush=True,
                    )
            for count, values in per_run.items():
                print(f"{what}, {count} runs: {1000 * statistics.median(values):.0f} ms a run")
            fewest, most = min(args.counts), max(args.counts)
            label = f"{what}, time a run of {most} runs"
            rows.append(
                ratio_row(label, f"of {fewest} runs", per_run[most], per_run[fewest], 1.0, at_most=True)
            )
    finish(rows, args)


if __name__ == "__main__":
    main()
