"""The tables and pictures of a plan's questions, from the rows that run.py and combine.py have written.

    python results/evidence/analyse.py --plan 1 --caltech79 PHOTOS
    python results/evidence/analyse.py --plan 2                             # 3 to 5 likewise

Writes the tables into README.md, between the marks of the plan, and the pictures beside it. What is compared with what
stands in the plans and, for the computer, in questions.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import questions
from arms import MAIN
from judging import judge, table
from pictures import draw
from PIL import Image
from rows import ENDINGS, HERE, Measured, Side, crop, flat, load, load_transfer, over_range, read

from sppcls.comparison.statistics import mean_and_std
from sppcls.data.folder import labelled_images

Table = Sequence[Sequence[object]]
WORDS = {"crop": "centre crop", "enlarged": "enlarged to 112 before", "recalibrated": "with batch norm's statistics of the tested size"}  # fmt: skip


def spread(values: Sequence[float]) -> str:
    mean, std = mean_and_std(values)
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")


def markdown(rows: Table) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def curves(found: Measured, test: str, arms: Sequence[str]) -> Table:
    sizes = found.sizes(test)
    rows: list[list[object]] = [["arm", "seeds", *sizes]]
    for arm in arms:
        cells = [found.errors.get(Side(arm, test, size), {}) for size in sizes]
        if any(cells):
            shown = (spread(list(c.values())) if c else "" for c in cells)
            rows.append([f"`{arm}`", max(map(len, cells)), *shown])
    return rows


def by_arm(found: Measured, runs: Sequence[dict[str, str]]) -> Table:
    """What every arm cost and what error it has."""
    rows: list[list[object]] = [
        ["arm", "seeds", "10⁹ training pixels", "head, million", "at 112, %", "mean of the five sizes, %"]
    ]
    for arm in found.arms():
        mine = [row for row in runs if row["arm"] == arm]
        pixels = [float(row["training_gigapixels"]) for row in mine]
        over = found.errors.get(over_range(arm))
        rows.append(
            [
                f"`{arm}`", len(mine), f"{min(pixels):.3f} to {max(pixels):.3f}", f"{int(mine[0]['head_parameters']) / 1e6:.3f}",
                spread(list(found.errors[crop(arm)].values())), spread(list(over.values())) if over else "",
            ]
        )  # fmt: skip
    return rows


def elongated(folder: str) -> np.ndarray:
    """bool for each of the photos that were tested: whether its aspect is outside 2:3 to 3:2."""
    classes = sorted(path.name for path in Path(folder, "val").iterdir())
    source = labelled_images(folder, classes)
    sizes = [Image.open(source.root / source.name(i)).size for i in range(len(source))]
    return np.array([max(size) > 1.5 * min(size) for size in sizes])


def views(found: Measured, chosen: np.ndarray) -> Table:
    """Errors by view, of all photos and of those ``chosen``."""
    rows: list[list[object]] = [["arm", "view", "all photos, %", f"the {chosen.sum()} elongated ones, %"]]
    for side, errors in found.errors.items():
        if side.size in (MAIN, 128) and side.test != "enlarged" and found.enough(side):
            few = [100 * (1 - bits[chosen].mean()) for bits in found.right[side].values()]
            rows.append(
                [f"`{side.arm}`", f"{side.test} {side.size}", spread(list(errors.values())), spread(few)]
            )
    return rows


def report(
    plan: int, found: Measured, transfer: Measured, caltech79: str | None
) -> Iterator[tuple[str, Table]]:
    """(heading, table) of all that a plan gives; views only with the photos, whose aspects they need."""
    yield "Arms", by_arm(found, read(f"runs{ENDINGS[plan]}.csv"))
    any_size = [arm for arm in found.arms() if crop(arm, 56) in found.errors]
    for test, words in WORDS.items():
        if any_size and found.sizes(test):
            yield f"Error against the size of the photo, {words}", curves(found, test, any_size)
    if any_size:
        within = [[f"`{arm}`", ", ".join(map(str, flat(found, arm)))] for arm in any_size]
        yield "Flat", [["arm", "within 3 points of its best at"], *within]
    if plan == 1 and caltech79:
        yield "Views", views(found, elongated(caltech79))
    if transfer.errors:
        rows: list[list[object]] = [["arm", "layer and view", "seeds", "top-1 error, %"]]
        for side, errors in transfer.errors.items():
            rows.append([f"`{side.arm}`", side.test, len(errors), spread(list(errors.values()))])
        yield "Transfer", rows
    if plan == 1:
        together = read("ensembles.csv")
        yield "Ensembles", [list(together[0]), *(list(row.values()) for row in together)]
    for name, family in questions.PLANS[plan]().items():
        judged = judge(family, transfer if name in questions.TRANSFER else found)
        if judged:
            yield f"Family {name}", table(judged)


def insert(page: str, plan: int, text: str) -> str:
    """The page with the text between the marks of a plan."""
    begin, end = f"<!-- tables of plan {plan} -->\n", f"<!-- end of plan {plan} -->\n"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=int, choices=questions.PLANS, required=True)
    parser.add_argument(
        "--caltech79",
        help="folder with val/ of the 79 classes, for the aspects, which the first plan asks for",
    )
    args = parser.parse_args()
    if args.plan == 1 and not args.caltech79:
        parser.error("--plan 1 needs --caltech79")
    found, transfer = load(args.plan), load_transfer(args.plan)
    tables = report(args.plan, found, transfer, args.caltech79)
    text = "\n".join(f"### {heading}\n\n{markdown(rows)}" for heading, rows in tables)
    runs = read(f"runs{ENDINGS[args.plan]}.csv")
    minutes = sum(float(row["train_cpu_s"]) + float(row["test_cpu_s"]) for row in runs) / 60
    page = HERE / "README.md"
    page.write_text(
        insert(page.read_text(), args.plan, f"{len(runs)} runs, {minutes:.1f} CPU minutes.\n\n{text}")
    )
    draw(args.plan, found, transfer, read("ensembles.csv"))


if __name__ == "__main__":
    main()
