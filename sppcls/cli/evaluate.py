"""``sppcls evaluate``: errors of a checkpoint under test protocols, or against the image size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFile, Loading, Positive, report_bad
from sppcls.cli.tested import Tests, by_split, tested_config
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.evaluation.evaluate import Result


@command
def run(
    checkpoint: CheckpointFile,
    *,
    tests: Tests,
    recalibrate: Positive | None = None,
    out: str | None = None,
    loading: Loading,
) -> int:
    """Measure a checkpoint: errors in per cent under test protocols, with the 95 % interval that the number of images
    allows, or the error against the size of the images.

    examples:
      sppcls evaluate runs/shapes/NAME/best.ckpt
      sppcls evaluate CKPT --protocol center,ten_view    several protocols
      sppcls evaluate CKPT --sizes 96:320:32             the error against the size, with a curve
      sppcls evaluate CKPT --data PHOTOS --split all     other photos

    Prints a table, and writes errors.csv and the answer to every image (npz) into a new folder. The exit status is 1 if an
    image could not be tested.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        recalibrate (N): test again with batch-norm statistics of N training images at the size tested
        out (FOLDER): new folder for results (beside the checkpoint)
    """
    words = tests.words()
    # Imported here: it takes seconds, and a slip should be reported at once.
    from sppcls.data import size_label
    from sppcls.evaluation.curve import write_curve
    from sppcls.evaluation.evaluate import (
        claim_folder,
        default_protocols,
        evaluate,
        results_table,
        write_last_result,
    )
    from sppcls.evaluation.recalibration import batch_norms

    if recalibrate and tests.split not in ("val", "test"):
        raise ConfigError(
            f"--recalibrate: takes training images, so they cannot be tested (--split {tests.split})"
        )
    net = loading.load(checkpoint)
    model_info = net.model_info
    config = tested_config(words, model_info, checkpoint)
    usual = config.evaluation.protocols or default_protocols(net)
    protocols, sizes = tests.load_protocols(["center"] if tests.sizes is not None else usual, net)
    if recalibrate:
        batch_norms(net)
    source, loaded = tests.images(config, model_info, checkpoint)
    folder = claim_folder(out, Path(checkpoint))

    def keep(results: list[Result]) -> None:
        write_last_result(folder, results)
        if sys.stderr.isatty():
            label, size = results[-1].label, size_label(results[-1].protocol.region)
            print(f"  {label} at {size}: {results[-1].predictions.main_error:.2f} %", file=sys.stderr)

    try:
        results = evaluate(
            net,
            source,
            protocols,
            sizes=sizes,
            recalibrate_on=loaded.train if loaded is not None and recalibrate else None,
            recalibrate_images=recalibrate or 1,
            split=tests.split_label,
            **loading.reading,
            done=keep,
            bar=True,
        )
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()  # stopped before there was a result
    print(results_table(results))
    if loaded is not None and tests.split == "val" and loaded.held_out:
        print(
            f"\n{config.data.root} has no validation split: these are the {len(loaded.val)} images that a training would hold out; "
            f"--split all tests all {sum(map(len, by_split(loaded).values()))}."
        )
    if config.augment.shorter_side is not None:
        print(
            f"\nIn training the images were validated with augment.shorter_side={config.augment.shorter_side}, "
            "which the protocols do not use."
        )
    if sizes is not None:
        trained = [min(size) for size in model_info["train_sizes"]]
        title = Path(checkpoint).resolve().parent.name
        print(f"\nCurve: {write_curve(folder, results, trained, title)}")
    print(f"\nPredictions of every image: {folder}")
    tested = [result.predictions for result in results]
    return report_bad(
        "not tested", {f"{line} (protocol {one.protocol})": None for one in tested for line in one.bad}
    )
