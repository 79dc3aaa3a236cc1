"""``sppcls ensemble``: several networks together, beside each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sppcls._util.console import table
from sppcls._util.figures import FIGURES
from sppcls._util.files import check_new_file, write_csv
from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFiles, Loading, report_bad
from sppcls.cli.tested import Tests, tested_config
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.evaluation import Predictions
    from sppcls.evaluation.ensemble import EnsembleResult

_GAIN = ["gain together, points", "95 % interval"]


@command
def run(
    checkpoints: CheckpointFiles,
    *,
    tests: Tests,
    out: str | None = None,
    overwrite: bool = False,
    loading: Loading,
) -> int:
    """Test several networks together: the mean of their softmax scores (He et al. 2015, Table 5), beside each alone, with
    what the ensemble gains over it and the 95 % interval that the images allow.

    examples:
      sppcls ensemble runs/shapes/*/best.ckpt
      sppcls ensemble CKPT CKPT --protocol ten_view --out gain.csv

    The networks need the same classes, in any order; sizes are those of the first one. `sppcls predict` and `sppcls export`
    take ensembles by --with. The exit status is 1 if an image could not be tested.

    Args:
        checkpoints (CKPT): best.ckpt or last.ckpt of two runs or more
        out (FILE): also write the figures to this CSV file
        overwrite: replace FILE if it exists
    """
    if len(checkpoints) < 2:
        raise ConfigError("ensemble: name two checkpoints at least; `sppcls evaluate` takes one")
    words = tests.words()
    if out is not None:
        check_new_file(out, overwrite)
    from sppcls.data import size_label
    from sppcls.evaluation.ensemble import evaluate_ensemble
    from sppcls.nn import Ensemble

    net = loading.load(*checkpoints)
    assert isinstance(net, Ensemble)
    protocols, sizes = tests.load_protocols(["center"], net, *net.members)
    first = net.members[0].model_info
    source, _ = tests.images(tested_config(words, first, checkpoints[0]), first, checkpoints[0])
    results = evaluate_ensemble(
        net,
        source,
        protocols,
        sizes=sizes,
        **loading.reading,
        split=tests.split_label,
        bar=True,
    )
    rows: list[dict[str, object]] = []
    for result in results:
        found = _rows(result, checkpoints)
        if rows:
            print()
        rows += found
        print(
            f"{result.protocol.name} at {size_label(result.protocol.region)}, {len(result.together):,} images; "
            f"the mean of {len(result.alone)} networks\n"
        )
        main = result.together.kind.main
        print(table([_cells(row, main) for row in found], ["network", f"{FIGURES[main].words} %", *_GAIN]))
    if out is not None:
        write_csv(out, rows)
        print(f"\n{out}: these figures")
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
