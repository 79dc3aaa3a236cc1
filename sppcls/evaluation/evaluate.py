"""What ``sppcls evaluate`` does: protocols and resolution curves of one network on one set of images."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppcls._util.console import table
from sppcls._util.figures import FIGURES
from sppcls._util.files import write_csv
from sppcls.data import (
    Size,
    Source,
    as_size,
    labelled_images,
    set_pixel_range,
    size_label,
    trained_pixel_range,
)
from sppcls.data.classes import check_known
from sppcls.data.files import with_classes, with_label_sets
from sppcls.data.label_sets import is_multi_label as has_label_sets
from sppcls.errors import ConfigError, DataError
from sppcls.evaluation.evaluator import evaluate_protocol
from sppcls.evaluation.predictions import Predictions
from sppcls.evaluation.protocols import Protocol, load_protocols
from sppcls.evaluation.recalibration import batch_norms, recalibrate
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label, model_info_of
from sppcls.runs.folder import check_writable, new_folder


@dataclass(frozen=True)
class Result:
    """One row of an evaluation.

    Attributes:
        protocol: with the region that was tested.
        predictions: what the network answered.
        recalibrated: training images that batch-norm statistics were taken from; 0: those of the checkpoint.
    """

    protocol: Protocol
    predictions: Predictions
    recalibrated: int = 0

    @property
    def label(self) -> str:
        """Name of the protocol, and whether statistics were taken anew."""
        return self.protocol.name + (" (recalibrated)" if self.recalibrated else "")


def evaluate(
    net: SPPClassifier,
    images: Source | str | os.PathLike[str],
    protocols: str | Sequence[str | Protocol] | None = None,
    *,
    sizes: Sequence[int | Size] | None = None,
    recalibrate_on: Source | None = None,
    recalibrate_images: int = 512,
    batch_size: int = 32,
    workers: int = 0,
    done: Callable[[list[Result]], None] = lambda results: None,
    bar: bool = False,
    split: str = "",
    keep_scores: bool = False,
) -> list[Result]:
    """Errors of a trained network under test protocols.

    Args:
        net: from :func:`sppcls.load_classifier`.
        images: what to test on: a source, or a folder with ``val/<class>/`` or ``<class>/``. Classes of the network
            may be missing there; its own numbers are what counts.
        protocols: names (see :func:`~sppcls.evaluation.load_protocol`) or values; None: ``center``, and ``full`` if
            the network takes any size.
        sizes: region sizes to test each protocol at, scales in proportion; None: the network's main size.
        recalibrate_on: training images; with them every row is followed by one with batch-norm statistics taken
            anew from ``recalibrate_images`` of them at that size.
        batch_size, workers: see :func:`~sppcls.evaluation.evaluate_protocol`.
        done: called with the results so far, each time there is one more.
        bar: show progress on a terminal.
        split: what the kept predictions call these images, such as ``test``; empty for those of the validation.
        keep_scores: see :func:`~sppcls.evaluation.evaluate_protocol`.

    Raises:
        ConfigError, CheckpointError, DataError: what is impossible is raised before any testing.

    Examples:
        >>> for result in sppcls.evaluate(net, "PHOTOS", ["center", "ten_view"]):
        ...     print(result.label, result.predictions.top1_error, result.predictions.top1_interval)
    """
    model_info = model_info_of(net)
    if isinstance(images, (str, os.PathLike)):
        source: Source = labelled_images(images, model_info["classes"])
        set_pixel_range(trained_pixel_range(model_info), source)
    else:
        source = images
    check_known(model_info["classes"], source.classes, "the network")
    source = with_labels_of(model_info, with_classes(source, model_info["classes"]))
    named = default_protocols(net) if protocols is None else protocols
    named = [named] if isinstance(named, str) else named
    values = [p for p in named if isinstance(p, Protocol)]
    values += load_protocols([p for p in named if isinstance(p, str)])
    regions = [
        as_size(size, "sizes") for size in (sizes if sizes is not None else [model_info["val_sizes"][0]])
    ]
    for region in regions:
        for protocol in values:
            protocol.at(region).check_fits(net)
    if recalibrate_on is not None:
        batch_norms(net)
    results: list[Result] = []

    def test(protocol: Protocol, tested: SPPClassifier, used: int) -> None:
        predictions = evaluate_protocol(
            tested, source, protocol, model_info=model_info, batch_size=batch_size, workers=workers,
            keep_scores=keep_scores, bar=bar,
        )  # fmt: skip
        if split:
            predictions.setting["split"] = split
        results.append(Result(protocol, predictions, used))
        done(results)

    for region in regions:
        other, used = net, 0
        if recalibrate_on is not None:
            other = copy.deepcopy(net)
            used = recalibrate(
                other,
                recalibrate_on,
                region,
                model_info=model_info,
                images=recalibrate_images,
                batch_size=batch_size,
                workers=workers,
            )
        for protocol in values:
            test(protocol.at(region), net, 0)
            if used:
                test(protocol.at(region), other, used)
    return results


def with_labels_of(model_info: Mapping[str, Any], source: Source) -> Source:
    """The same images with as many labels each as the network gives.

    Raises:
        DataError: they have several, and the network gives one.
    """
    if is_multi_label(model_info):
        return with_label_sets(source)
    if has_label_sets(source):
        raise DataError("the images have several labels, and the network was trained on images with one")
    return source


def default_protocols(net: SPPClassifier) -> list[str]:
    """``center``, and ``full`` for a network of any image size."""
    return ["center"] if net.fixed_size is not None else ["center", "full"]


# In short, beside the words of FIGURES.
_SHORT = {"ece": "ECE"}


def results_table(results: Sequence[Result]) -> str:
    """Results as aligned text."""
    rows = []
    kind = results[0].predictions.kind
    more = kind.validation[2:]
    for result in results:
        p = result.predictions
        low, high = p.interval
        found = _known_figures(p)
        rows.append(
            (
                result.label,
                size_label(result.protocol.region),
                p.views,
                f"{found[kind.main]:.2f}",
                f"{low:.1f} to {high:.1f}",
                *(f"{found[name]:.2f}" if name in found else "-" for name in more),
                f"{p.images_per_second:.1f}",
                len(p),
            )
        )
    words = [f"{_SHORT.get(name, FIGURES[name].words)} %" for name in (kind.main, *more)]
    return table(
        rows, ["protocol", "size", "views", words[0], "95 % interval", *words[1:], "images/s", "images"]
    )


def _known_figures(predictions: Predictions) -> dict[str, float]:
    """The figures that say something: with at most five classes every top-5 error is 0."""
    found = predictions.figures
    if len(predictions.classes) <= 5:
        found.pop("top5_error", None)
    return found


def write_last_result(folder: Path, results: Sequence[Result]) -> None:
    """Keep what has just been found: the predictions of the last result, and all results in ``errors.csv``.

    Raises:
        ConfigError: a file cannot be written.
    """
    last = results[-1]
    suffix = "_recalibrated" if last.recalibrated else ""
    name = f"{last.protocol.name.replace('+', '_and_')}_{size_label(last.protocol.region)}{suffix}.npz"
    last.predictions.save(folder / name)
    write_csv(folder / "errors.csv", [_row(result) for result in results])


def _row(result: Result) -> dict[str, object]:
    p, protocol = result.predictions, result.protocol
    low, high = p.interval
    found, main = _known_figures(p), p.kind.main
    return {
        "protocol": protocol.name,
        "size": size_label(protocol.region),
        "split": p.setting.get("split", "val"),
        "shorter_sides": " ".join(str(s) for s in sorted({s for g in protocol.groups for s in g.scales})),
        "window_rule": protocol.window_rule if protocol.has_windows else "",
        "recalibrated_on": result.recalibrated,
        "views": p.views,
        "images": len(p),
        "bad_images": len(p.bad),
        main: f"{found[main]:.4f}",
        f"{main}_low": f"{low:.4f}",
        f"{main}_high": f"{high:.4f}",
        **{name: f"{found[name]:.4f}" if name in found else "" for name in p.kind.validation[2:]},
        "images_per_s": f"{p.images_per_second:.2f}",
    }


def claim_folder(asked: str | None, checkpoint: Path) -> Path:
    """A new, empty folder for results: ``asked``, or ``evaluation-<checkpoint>`` beside the checkpoint, numbered.

    Raises:
        ConfigError: it holds something already, or cannot be made.
    """
    if asked is None:
        base = checkpoint.parent / f"evaluation-{checkpoint.stem}"
        return new_folder(base, f"{base} (--out names another folder)", "remove some of them")
    folder = Path(asked)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"--out {folder}: is not empty; name another folder")
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made ({error.strerror})") from None
    check_writable(folder)
    return folder
