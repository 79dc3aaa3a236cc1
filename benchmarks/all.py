"""All benchmarks, one after the other, and their table.

    python benchmarks/all.py --data-root PHOTOS [--out results/benchmarks.md] [--rounds N] [--only net_step,spp_layer]

PHOTOS has train/ and val/ with a folder for each class. A small network is trained on them first, for the benchmarks that need one.
An hour or more on 2 cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Row, machine, show

FULL = "backbone=zf5 head=fc data.batch_size=64 trainer.limit_train_batches=6"
"""The paper's network, for a few steps."""

RESNET = "backbone=resnet18 head=linear augment=resized trainer.limit_train_batches=8"
"""A residual network with a pyramid, for a few steps."""

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent)}


def benchmarks(photos: str, checkpoint: Path) -> dict[str, list[str]]:
    """Name of a script, and of a variant of it, to its arguments."""
    return {
        "net_step": [],
        "net_step:one thread": ["--threads", "1", "--sizes", "224"],
        "net_step:large": ["--batch-size", "64", "--sizes", "224", "--rounds", "1"],
        "spp_layer": [],
        "train_loop": ["--data-root", photos],
        "train_loop:cache": ["--data-root", photos, "--cache"],
        "train_loop:full": ["--data-root", photos, "--rounds", "1", *FULL.split()],
        "train_loop:reference": [
            "--data-root",
            photos,
            "--peer",
            "reference",
            "--rounds",
            "1",
            *RESNET.split(),
        ],
        "input_pipeline": ["--data-root", photos],
        "shards": ["--data-root", photos],
        "startup": [],
        "views": [str(checkpoint), "--data", f"data.root={photos}", "--what", "96", "--limit", "50"],
        "predict": [str(checkpoint), f"{photos}/val"],
        "detection": [],
        "memory": [],
        "sweep": [],
    }


def train(photos: str, runs: str) -> Path:
    words = [sys.executable, str(HERE.parent / "train.py"), "data=folder", f"data.root={photos}", "augment=anywhere",
             "trainer.max_epochs=2", f"runs_dir={runs}", "name=benchmarks", "run_name=net"]  # fmt: skip
    subprocess.run(words, check=True, env=ENVIRONMENT)
    return Path(runs) / "benchmarks" / "net" / "last.ckpt"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", required=True, metavar="PHOTOS")
    parser.add_argument("--out", type=Path, help="write the table here, as Markdown")
    parser.add_argument(
        "--rounds", help="turns of each side (each script's own number), where the list has none"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help="scripts, with commas between (all)"
    )
    args = parser.parse_args()
    rows: list[Row] = []
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        photos = str(Path(args.data_root).resolve())
        chosen = {n: w for n, w in benchmarks(photos, Path(folder) / "benchmarks/net/last.ckpt").items()
                  if not args.only or n.split(":")[0] in args.only}  # fmt: skip
        if {"views", "predict"} & set(chosen):
            train(photos, folder)
        for name, words in chosen.items():
            print(f"\n== {name} {' '.join(words)}", flush=True)
            kept = Path(folder) / "rows.json"
            kept.unlink(missing_ok=True)
            rounds = ["--rounds", args.rounds] if args.rounds and "--rounds" not in words else []
            command = [
                sys.executable,
                str(HERE / f"{name.split(':')[0]}.py"),
                "--json",
                str(kept),
                *rounds,
                *words,
            ]
            done = subprocess.run(command, env=ENVIRONMENT, check=False)
            if done.returncode or not kept.is_file():
                failed.append(name)
            else:
                rows += [Row(**row) for row in json.loads(kept.read_text())]
    print(f"\n{machine()}\n\n{show(rows)}")
    if args.out:
        args.out.write_text(markdown(rows, f"all.py {shlex.join(_words(args))}"))
    if failed:
        raise SystemExit(f"benchmarks/all.py: without {', '.join(failed)}, which failed")


def _words(args: argparse.Namespace) -> list[str]:
    """The command line, as it may be shown."""
    rounds = ["--rounds", args.rounds] if args.rounds else []
    return ["--data-root", "PHOTOS", *rounds, *(["--only", ",".join(args.only)] if args.only else [])]


def markdown(rows: list[Row], command: str) -> str:
    """The table, and above it what made it: ``command`` with its arguments."""
    lines = [
        f"Made by `python benchmarks/{command}` on {datetime.date.today()}; {machine()}. A ratio is the median over the "
        "rounds, with the smallest and the largest.",
        "",
        "| what | against | ratio | rounds | bar | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        bar = "" if row.bar is None else f"{'≤' if row.at_most else '≥'} {row.bar:g}"
        met = {None: "", True: "met", False: "**missed**"}[row.met]
        spread = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        lines.append(f"| {row.what} | {row.against} | {spread} | {row.rounds} | {bar} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
