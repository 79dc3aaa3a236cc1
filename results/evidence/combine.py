"""Question 5 of plan.md: the mean of several networks' scores, for every subset of them.

    python results/evidence/combine.py --caltech79 PHOTOS --work FOLDER

Takes the checkpoints that run.py has left in FOLDER and writes ensembles.csv beside this file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from run import HERE, MAIN, read, write

import sppcls
from sppcls.evaluation.ensemble import average, evaluate_ensemble
from sppcls.evaluation.predictions import Predictions

FAMILY = 3  # intervals that are looked at together


def subsets(arms: dict[str, Sequence[Predictions]]) -> Iterator[tuple[str, int, list[list[Predictions]]]]:
    """(kind, number of networks, all choices of so many)."""
    for arm, found in arms.items():
        for k in range(1, len(found) + 1):
            yield arm, k, [list(chosen) for chosen in combinations(found, k)]
    first, second = arms.values()
    for half in (1, 2, min(len(first), len(second))):
        pairs = product(combinations(first, half), combinations(second, half))
        yield "mixed", 2 * half, [[*one, *other] for one, other in pairs]


def gain_interval(members: Sequence[Predictions], together: Predictions) -> tuple[float, float]:
    """Percentile bootstrap over photos of the gain over the mean error of the members, in points."""
    gain = together.hits(1) - np.mean([one.hits(1) for one in members], axis=0)
    drawn = np.random.default_rng(0).integers(0, len(gain), (10_000, len(gain)))
    low, high = np.percentile(100 * gain[drawn].mean(1), [2.5 / FAMILY, 100 - 2.5 / FAMILY])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--caltech79", required=True, help="folder with train/ and val/ of the 79 classes")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the rows (that of this file)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = {
        arm: [r["seed"] for r in read(args.out / "runs.csv") if r["arm"] == arm]
        for arm in ("single", "random")
    }
    paths = [
        args.work / "runs/evidence" / f"{a}-seed{s}" / "last.ckpt" for a, all in seeds.items() for s in all
    ]
    net = sppcls.ensemble([sppcls.load_classifier(path) for path in paths]).to(
        memory_format=torch.channels_last
    )
    alone = evaluate_ensemble(net, args.caltech79, "center", sizes=[MAIN])[0].alone
    count = len(seeds["single"])
    rows = []
    for kind, k, choices in subsets({"single": alone[:count], "random": alone[count:]}):
        pairs = [(chosen, average(chosen)) for chosen in choices]
        errors = [together.top1_error for _, together in pairs]
        members = [np.mean([one.top1_error for one in chosen]) for chosen, _ in pairs]
        low, high = gain_interval(*pairs[0]) if len(pairs) == 1 else (None, None)
        rows.append(
            {
                "kind": kind, "k": k, "choices": len(pairs), "members_error": f"{np.mean(members):.3f}",
                "mean_error": f"{np.mean(errors):.3f}", "std": f"{np.std(errors, ddof=1):.3f}" if len(pairs) > 1 else "",
                "gain": f"{np.mean(members) - np.mean(errors):.3f}",
                "gain_low": "" if low is None else f"{low:.3f}", "gain_high": "" if high is None else f"{high:.3f}",
            }
        )  # fmt: skip
    write(args.out / "ensembles.csv", rows)


if __name__ == "__main__":
    main()
