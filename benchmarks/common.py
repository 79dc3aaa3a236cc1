"""What the benchmarks share: sides that take turns, ratios with their spread, and the table."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sppcls._util.console import table


@dataclass(frozen=True)
class Row:
    """One line of the table: how a thing does beside a peer measured in the same run."""

    what: str
    against: str
    ratio: float
    """Median over the rounds."""
    low: float
    high: float
    """Smallest and largest round."""
    rounds: int
    bar: float | None
    """What the project wants, if it wants something."""
    at_most: bool = False
    """The bar is an upper one."""

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each side returns (seconds, usually) in every round; every other round goes backwards."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            found[name].append(sides[name]())
    return found


AS_TRAINING_DOES = {"OMP_WAIT_POLICY": "passive"}
"""What ``train.py`` sets before torch is loaded, for sides that call Python functions of ours."""


def in_a_process(file: str, *words: object, **environment: str) -> Any:
    """What ``python file --side words`` prints in its last line, as JSON; ``environment`` is added to this process's.

    A side has a process of its own where what it leaves behind, such as memory that is kept, would help or harm the next.
    """
    command = [sys.executable, file, "--side", *map(str, words)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    return json.loads(done.stdout.splitlines()[-1])


def ratio_row(
    what: str,
    against: str,
    above: Sequence[float],
    below: Sequence[float],
    bar: float | None = None,
    at_most: bool = False,
) -> Row:
    """The row of ``above`` / ``below``, round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return Row(what, against, statistics.median(ratios), min(ratios), max(ratios), len(ratios), bar, at_most)


def machine() -> str:
    """The processor, its cores and the packages, in a line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    threads = torch.get_num_threads()
    return f"{model}{gpu}; torch {torch.__version__} with {threads} thread{'s' if threads > 1 else ''}"


def show(rows: Sequence[Row]) -> str:
    """The rows as text."""
    cells = [("what", "against", "ratio", "rounds", "bar", "")]
    for row in rows:
        bar = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {row.bar:g}"
        met = {None: "", True: "met", False: "missed"}[row.met]
        spread = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        cells.append((row.what, row.against, spread, str(row.rounds), bar, met))
    return table(cells)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The figures that a table was made of."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(f"written to {path}")


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The arguments that every benchmark has."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help=f"turns of each side ({rounds})")
    result.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    return result


def finish(rows: Sequence[Row], args: argparse.Namespace) -> None:
    """Print the table; write the rows where ``--json`` says."""
    print(f"\n{machine()}\n\n{show(rows)}")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
