"""``sppcls predict``: classify images of any size."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from sppcls._util.console import one_line, silence
from sppcls._util.files import check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFile, CheckpointFiles, Loading, Positive, between, check_there, whole
from sppcls.errors import DataError

if TYPE_CHECKING:
    from sppcls.inference.predict import Prediction


def _shorter_side(text: str) -> int | Literal["native"]:
    if text == "native":
        return "native"
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or native") from None


@command
def run(
    checkpoint: CheckpointFile,
    places: tuple[str, ...],
    *,
    top: Positive | None = None,
    threshold: Annotated[float, between(0, 1, ends=True)] | None = None,
    format_: Literal["table", "json", "csv"] = "table",
    out: str | None = None,
    overwrite: bool = False,
    shorter_side: Annotated[int | Literal["native"], _shorter_side] | None = None,
    with_: CheckpointFiles = (),
    loading: Loading,
) -> int:
    """Classify images of any size, whole and with their aspect kept: a line per image, in the order given.

    examples:
      sppcls predict runs/shapes/NAME/best.ckpt photo.jpg
      sppcls predict CKPT photos/ --top 2 --format csv --out classes.csv

    Each image is resized to a shorter side of 256 pixels (for a network of 224; 8/7 of the network's size) and to 8.4 million
    pixels at most. A network without a pyramid that takes one size only sees the centre, as in validation.

    A network of several labels gives the classes from the probability 0.5 on (--threshold), however many these are, or
    with --top N the N most probable ones.

    Images that cannot be read are named on stderr, and the rest is classified; the exit status is 1 if there are any.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        places (IMAGE|FOLDER): image files whatever their names, and folders, in which files are found by their extensions
        top (N): most classes per image (5; with several labels all from --threshold on)
        threshold (P): only classes of at least this probability (0; with several labels, without --top: 0.5)
        format_: layout of the results, see below
        out (FILE): where the results go (stdout)
        overwrite: replace FILE if it exists
        shorter_side (N|native): pixels of the resized image; native: its own size (the checkpoint's: 256 for a network of 224)
        with_ (CKPT): more checkpoints: an ensemble, whose probabilities are the mean of the networks'

    formats:
      table  a line per image: path, then classes with per cent (several lines where the terminal is too narrow)
      json   an array of {"path", "predictions": [{"class", "probability"}, ...], "error"}; of a bad image the
             predictions are [] and the error says why, else it is null
      csv    path,class1,probability1,class2,probability2,...,error; of a bad image all but path and error are empty,
             of an image with fewer classes the others

    Probabilities are 0..1 in json and csv. A byte of a path that is not UTF-8 is written as \\xff.
    """
    if out is not None:
        check_new_file(out, overwrite)
    for place in places:
        check_there(place, "sppcls predicts image files")
    from sppcls.data import image_files
    from sppcls.inference.predict import answers_of, predict_files
    from sppcls.inference.predict_text import as_csv, as_json, as_table

    files = image_files(places, lambda line: print(f"sppcls: warning: {line}", file=sys.stderr))
    net = loading.load(checkpoint, *with_)
    model_info = net.model_info
    classes = model_info["classes"]
    answer = answers_of(net, top, threshold)
    most = min(answer.top, len(classes))
    predictions = predict_files(
        net,
        files,
        top=most,
        threshold=answer.threshold,
        shorter_side=shorter_side,
        **loading.reading,
    )
    bad = 0
    with results(out) as file:

        def watched() -> Iterator[Prediction]:
            nonlocal bad
            for prediction in _with_progress(predictions, len(files), file):
                if prediction.error is not None:
                    bad += 1
                    _report(prediction)
                yield prediction

        if format_ == "json":
            texts = as_json(watched())
        elif format_ == "csv":
            texts = as_csv(watched(), most)
        else:
            columns = shutil.get_terminal_size().columns if file.isatty() else None
            texts = as_table(watched(), files, classes, most, columns)
        for text in texts:
            write(file, text)
    if bad:
        print(f"sppcls: {bad:,} of {len(files):,} images could not be classified", file=sys.stderr)
    return 1 if bad else 0


@contextlib.contextmanager
def results(path: str | Path | None) -> Iterator[TextIO]:
    """Where the results go: stdout, or a new file."""
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            yield file
        return
    if sys.stdout is None:
        raise DataError("stdout is closed; name a file with --out")
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character of a name is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    yield sys.stdout


def write(out: TextIO, text: str) -> None:
    """Write so that whoever reads gets every result at once."""
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        silence(
            out
        )  # what is left in the buffer would fail once more, with a traceback, when the file is closed
        if isinstance(error, BrokenPipeError):
            raise
        name = "stdout" if out is sys.stdout else out.name
        raise DataError(f"{name}: the results cannot be written ({error.strerror})") from None


def _with_progress(predictions: Iterable[Prediction], total: int, out: TextIO) -> Iterable[Prediction]:
    """A bar on stderr, unless the terminal is where the results appear."""
    from tqdm import tqdm

    bar: Iterable[Prediction] = tqdm(
        predictions, total=total, unit=" images", disable=True if out.isatty() else None
    )
    return bar


def _report(prediction: Prediction) -> None:
    from tqdm import tqdm

    tqdm.write(one_line(f"sppcls: {prediction.path}: {prediction.error}"), file=sys.stderr)
