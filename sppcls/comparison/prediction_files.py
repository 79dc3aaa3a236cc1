"""Two or more files of predictions on the same images, without the runs that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from sppcls.comparison.answers import Answers, LabelAnswers, read_answers
from sppcls.comparison.findings import Verdict, in_words, p_text, signed, span
from sppcls.comparison.report.tables import Cell, Table
from sppcls.comparison.statistics import LEVEL, bootstrap_over_images, holm, mcnemar
from sppcls.errors import ConfigError


def compare_files(paths: Sequence[Path]) -> tuple[Table, Table, list[str]]:
    """Errors of each file, paired differences, and a sentence for each pair.

    Args:
        paths: npz files, as ``sppcls evaluate`` and training write them.

    Raises:
        DataError: a file cannot be read.
        ConfigError: there is one file only, or two are about different images.
    """
    if len(paths) < 2:
        raise ConfigError(f"{paths[0]}: one file of predictions; name another one to compare it with")
    found = []
    for path in paths:
        answers = read_answers(path)
        if isinstance(answers, LabelAnswers):
            raise ConfigError(
                f"{path}: of images with several labels; files alone are not compared, name the folders of their runs"
            )
        found.append(answers)
    for answers in found[1:]:
        _check_same_images(found[0], answers)
    rows: list[list[Cell]] = [
        [str(a.path), str(a.measure), *(f"{e:.2f}" for e in a.errors), str(len(a.labels))] for a in found
    ]
    errors = Table("Files", ["file", "measure", "top1_error, %", "top5_error, %", "images"], rows)
    pairs = list(combinations(found, 2))
    tests = [mcnemar(first.hit1, second.hit1) for first, second in pairs]
    corrected = holm([test.p for test in tests])
    header = [
        "A - B",
        "A - B, points",
        "95 % over images",
        "right only in A",
        "right only in B",
        "p",
        "p, corrected",
    ]
    differences = Table("Differences in top-1 error", header)
    sentences = []
    for (first, second), test, p in zip(pairs, tests, corrected, strict=True):
        difference = second.errors[0] - first.errors[0]
        interval = bootstrap_over_images([first.hit1], [second.hit1])
        row: list[Cell] = [f"{second.path} - {first.path}", signed(difference), span(*interval)]
        row += [str(test.only_second), str(test.only_first), f"{test.p:.4f}", f"{p:.4f}"]
        differences.rows.append(row)
        verdict = Verdict.NETWORKS if p <= LEVEL else Verdict.NOT_SHOWN
        sentences.append(
            f"{verdict}: {in_words(str(first.path), str(second.path), difference)}, over the {len(first.labels)} "
            f"images {span(*interval)} (95 %); McNemar: {p_text(test.p)}"
        )
    sentences.append(
        "Nothing is said about other training runs: that takes several seeds, and their run folders."
    )
    return errors, differences, sentences


def _check_same_images(first: Answers, second: Answers) -> None:
    if first.images != second.images:
        common = len({*first.names.tolist()} & {*second.names.tolist()})
        raise ConfigError(
            f"{second.path}: is about other images or labels than {first.path} ({len(second.names)} and "
            f"{len(first.names)} images, {common} of the same name), so they cannot be compared"
        )
