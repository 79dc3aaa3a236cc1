"""``sppcls compare``: from run folders to an answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from sppcls._util.console import one_line, terminal_columns, visible
from sppcls.cli.command import command
from sppcls.errors import ConfigError

_SHOWN = 12  # lines of one kind on the terminal; the report has all


@command
def run(
    paths: tuple[Path, ...],
    *,
    out: Path | None = None,
    baseline: str | None = None,
    format_: Literal["text", "markdown", "csv", "latex"] = "text",
) -> int:
    """Group runs by what was varied, with seeds as replicates, and say what they show: mean and standard deviation, paired
    differences with 95 % intervals over seeds and over images, and in plain words whether a difference is shown. Runs that
    differ in more than one thing are not compared.

    examples:
      sppcls compare runs/single_vs_multi                   a sweep's folder
      sppcls compare RUN RUN --out report --baseline GROUP
      sppcls compare a.npz b.npz --format markdown          answers of two networks

    Writes a report: comparison.html (one file, with pictures), .md, .csv, .tex and the pictures. The exit status is 0 also
    where nothing is shown to differ.

    Args:
        paths (PATH): run folders, a sweep's folder, any folder above them; or .npz files of predictions
        out (FOLDER): where the report goes (PATH/comparison, or ./comparison for several); an older report is replaced
        baseline (GROUP): compare groups with this one only, where they differ in one thing (each such pair)
        format_: how tables are printed
    """
    if any(path.suffix == ".npz" for path in paths):
        return _compare_files(paths, format_, {"--out": out, "--baseline": baseline})
    from sppcls.comparison import compare
    from sppcls.comparison.board.logdir import write_beside_runs
    from sppcls.comparison.report import content
    from sppcls.comparison.report.write import check_out, write_report

    if out is not None:
        check_out(out)
    comparison = compare(paths, baseline)
    out = check_out(out or (paths[0] if len(paths) == 1 else Path()) / "comparison")
    found = content.Content.of(comparison)
    tables = found.tables
    beside = [tables[n] for n in ("class_mean", "every_size_and_protocol", "equal_cost") if n in tables]
    if format_ == "text":
        for one in found.conclusions:
            print(visible("\n  ".join([f"{one.question} {one.answer}", *one.lines]) + "\n"))
        print(visible(content.introduction(comparison)))
        if "legend" in tables:
            print(visible("\n".join(["", *(f"{name}: {words}" for name, words in tables["legend"].rows)])))
        width = terminal_columns()
        print(visible("\n" + _fitting(tables["groups"], content.for_a_screen(tables["groups"]), width)))
        for table in beside:
            print(visible(f"\n{table.title}\n{table.text(width)}"))
        refused = [f"{who}: not compared: they {reason}" for who, reason in content.refusals(comparison)]
        lines = _shortened([*found.sentences, *refused])
        print(visible("\n".join(["", *lines, "", content.VERDICT_RULE, content.cells_rule(comparison)])))
    else:
        first = ("groups", "legend", "differences", "differences_on_test_images")
        _print_tables([*(tables[n] for n in first if n in tables), *beside], format_)
    page = write_report(comparison, out)
    write_beside_runs(comparison, out)
    if format_ == "text":
        print(visible(f"Report: {page}"))
    else:
        print(one_line(f"sppcls: report: {page}"), file=sys.stderr)
    for problem in _shortened(comparison.problems):
        print(one_line(f"sppcls: {problem}"), file=sys.stderr)
    return 0


def _compare_files(paths: tuple[Path, ...], form: str, options: dict[str, Any]) -> int:
    from sppcls.comparison.prediction_files import compare_files

    for path in paths:
        if path.suffix != ".npz":
            raise ConfigError(f"{path}: name run folders, or .npz files of predictions, not both")
    for option, value in options.items():
        if value is not None:
            raise ConfigError(f"{option}: is for run folders; files of predictions are only printed")
    errors, differences, sentences = compare_files(paths)
    if form != "text":
        _print_tables([errors, differences], form)
    else:
        print(visible("\n".join([errors.text(terminal_columns()), "", *sentences])))
    return 0


def _print_tables(tables: list[Any], form: str) -> None:
    print(visible("\n\n".join(getattr(table, form)().rstrip("\n") for table in tables)))


def _fitting(whole: Any, short: Any, columns: int | None) -> str:
    """A table as text. Where the terminal is too narrow for it: fewer columns, folded, and which others the report has."""
    text: str = whole.text()
    if columns is None or max(map(len, text.splitlines())) <= columns:
        return text
    others = ", ".join(name for name in whole.header if name not in short.header)
    return f"{short.text(columns)}" + (f"\n\nIn the report, too: {others}." if others else "")


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} more in the report"]
