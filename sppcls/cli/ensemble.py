"""``sppcls ensemble``: several networks together, beside each of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sppcls._util.console import table
from sppcls._util.figures import FIGURES
from sppcls._util.files import check_new_file, replacing
from sppcls.cli.common import Parser, add_device, add_plugins, check_checkpoint, load_together, report_bad
from sppcls.cli.evaluate import add_tests, tested_config, tested_images, tested_words
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.evaluation import Predictions
    from sppcls.evaluation.ensemble import EnsembleResult

_GAIN = ["gain together, points", "95 % interval"]


def run(words: list[str]) -> int:
    """Test the networks alone and together; 1 if an image could not be tested."""
    args = _parser().parse_args(words)
    if len(args.checkpoints) < 2:
        raise ConfigError("ensemble: name two checkpoints at least; `sppcls evaluate` takes one")
    for path in args.checkpoints:
        check_checkpoint(path)
    data = tested_words(args)
    if args.out is not None:
        check_new_file(args.out, args.overwrite)
    from sppcls.data import as_size, size_label
    from sppcls.evaluation import load_protocols
    from sppcls.evaluation.curve import parse_sizes
    from sppcls.evaluation.ensemble import evaluate_ensemble
    from sppcls.nn import Ensemble

    net = load_together(args.checkpoints, args.device, args.threads)
    assert isinstance(net, Ensemble)
    named = (args.protocol or "center").split(",")
    protocols = load_protocols([name for name in named if name.strip()], args.window_rule)
    sizes = None if args.sizes is None else parse_sizes(args.sizes)
    for member in net.members:
        for protocol in protocols:
            for size in sizes or [net.model_info["val_sizes"][0]]:
                protocol.at(as_size(size, "sizes")).check_fits(member)
    first = net.members[0].model_info
    config = tested_config(data, first, args.checkpoints[0])
    source, _ = tested_images(config, args.split, first, args.checkpoints[0])
    results = evaluate_ensemble(
        net,
        source,
        protocols,
        sizes=sizes,
        batch_size=args.batch_size,
        workers=args.workers,
        split="" if args.split == "val" else args.split,
        bar=True,
    )
    rows: list[dict[str, object]] = []
    for result in results:
        found = _rows(result, args.checkpoints)
        if rows:
            print()
        rows += found
        print(
            f"{result.protocol.name} at {size_label(result.protocol.region)}, {len(result.together):,} images; "
            f"the mean of {len(result.alone)} networks\n"
        )
        main = result.together.kind.main
        print(table([_cells(row, main) for row in found], ["network", f"{FIGURES[main].words} %", *_GAIN]))
    if args.out is not None:
        with replacing(args.out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"\n{args.out}: these figures")
    return report_bad("not tested", {line: None for result in results for line in result.together.bad})


def _rows(result: EnsembleResult, names: Sequence[str]) -> list[dict[str, object]]:
    """A row for each network, for the mean of their errors and for the ensemble; errors in per cent, gains in points."""
    from sppcls.comparison.statistics import bootstrap_over_images, interval_of_draws
    from sppcls.data import size_label
    from sppcls.evaluation.ensemble import of_images

    place = {"protocol": result.protocol.name, "size": size_label(result.protocol.region)}
    together = result.together
    alone = [of_images(one, together.indices) for one in result.alone]  # those that all could take
    rows: list[dict[str, object]] = []
    main = together.kind.main

    def interval(several: Sequence[Predictions]) -> tuple[float, float]:
        if not together.multi_label:
            return bootstrap_over_images([together.hits(1)] * len(several), [one.hits(1) for one in several])
        return interval_of_draws([together.draws] * len(several), [one.draws for one in several])

    for name, several in [*zip(names, ([one] for one in alone), strict=True), ("their mean", alone)]:
        error = sum(one.main_error for one in several) / len(several)
        low, high = interval(several)
        rows.append(
            {
                **place, "network": name, "images": len(together), main: f"{error:.2f}",
                "gain": f"{error - together.main_error:+.2f}", "gain_low": f"{low:+.2f}", "gain_high": f"{high:+.2f}",
            }
        )  # fmt: skip
    nothing = {"gain": "", "gain_low": "", "gain_high": ""}
    whole = {"network": "together", "images": len(together), main: f"{together.main_error:.2f}"}
    return [*rows, {**place, **whole, **nothing}]


def _cells(row: dict[str, object], main: str) -> list[object]:
    interval = f"{row['gain_low']} to {row['gain_high']}" if row["gain"] else ""
    return [row["network"], row[main], row["gain"], interval]


def _parser() -> Parser:
    parser = Parser(
        "ensemble",
        "Test several networks together: the mean of their softmax scores (He et al. 2015, Table 5), beside each alone, with\n"
        "what the ensemble gains over it and the 95 % interval that the images allow. The networks need the same classes, in\n"
        "any order; sizes are those of the first one. `sppcls predict` and `sppcls export` take ensembles by --with.",
    )
    parser.usage = "sppcls ensemble CKPT CKPT ... [options]"  # --data takes all words that follow it
    parser.add_argument("checkpoints", nargs="+", metavar="CKPT", help="best.ckpt or last.ckpt of runs")
    add_plugins(parser)
    add_tests(parser, "center")
    parser.add_argument("--out", metavar="FILE", help="also write the figures to this CSV file")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    add_device(parser)
    return parser
