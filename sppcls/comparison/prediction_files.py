"""Two or more files of predictions on the same images, without the runs that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from sppcls.comparison.answers import Answers, LabelAnswers, read_answers
from sppcls.comparison.findings import Verdict, in_words, p_text, resampled, signed, span
from sppcls.comparison.report.tables import Cell, Table
from sppcls.comparison.statistics import (
    LEVEL,
    bootstrap_over_images,
    holm,
    interval_of_draws,
    mcnemar,
    p_of_draws,
)
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
    found = [read_answers(path) for path in paths]
    for answers in found[1:]:
        _check_same_images(found[0], answers)
    measure = found[0].measure
    rows: list[list[Cell]] = [
        [str(a.path), str(a.measure), *(f"{e:.2f}" if e == e else None for e in a.errors), str(len(a))]
        for a in found
    ]
    header = ["file", "measure", *(f"{measure.figure(top)}, %" for top in (1, 5)), "images"]
    errors = Table("Files", header, rows).used()
    tested = [(first, second, *_test(first, second)) for first, second in combinations(found, 2)]
    corrected = holm([p for *_, p in tested])
    differences = Table(
        f"Differences in {measure.error()}",
        [
            "A - B",
            "A - B, points",
            "95 % over images",
            "right only in A",
            "right only in B",
            "p",
            "p, corrected",
        ],
    )
    sentences = []
    for (first, second, interval, only, p), in_family in zip(tested, corrected, strict=True):
        difference = second.errors[0] - first.errors[0]
        row: list[Cell] = [f"{second.path} - {first.path}", signed(difference), span(*interval), *only]
        differences.rows.append([*row, f"{p:.4f}", f"{in_family:.4f}"])
        verdict = Verdict.NETWORKS if in_family <= LEVEL else Verdict.NOT_SHOWN
        grounds = f"{span(*interval)} (95 %); McNemar: {p_text(p)}" if only[0] else resampled(interval, p)
        change = in_words(str(first.path), str(second.path), difference)
        sentences.append(f"{verdict}: {change}, over the {len(first)} images {grounds}")
    sentences.append(
        "Nothing is said about other training runs: that takes several seeds, and their run folders."
    )
    return errors, differences.used(), sentences


def _test(
    first: Answers | LabelAnswers, second: Answers | LabelAnswers
) -> tuple[tuple[float, float], tuple[Cell, Cell], float]:
    """The interval over images, the images that only one got right, second first, and p."""
    if isinstance(first, Answers) and isinstance(second, Answers):
        test = mcnemar(first.hit1, second.hit1)
        interval = bootstrap_over_images([first.hit1], [second.hit1])
        return interval, (str(test.only_second), str(test.only_first)), test.p
    assert isinstance(first, LabelAnswers)
    assert isinstance(second, LabelAnswers)
    draws = first.draws, second.draws
    return interval_of_draws(*([d] for d in draws)), (None, None), p_of_draws(*draws)


def _check_same_images(first: Answers | LabelAnswers, second: Answers | LabelAnswers) -> None:
    if isinstance(first, LabelAnswers) != isinstance(second, LabelAnswers):
        several, one = (first, second) if isinstance(first, LabelAnswers) else (second, first)
        raise ConfigError(
            f"{several.path}: its images have several labels, those of {one.path} one each, so they cannot be compared"
        )
    if first.images != second.images:
        common = len({*first.names.tolist()} & {*second.names.tolist()})
        raise ConfigError(
            f"{second.path}: is about other images or labels than {first.path} ({len(second.names)} and "
            f"{len(first.names)} images, {common} of the same name), so they cannot be compared"
        )
