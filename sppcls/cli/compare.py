"""``sppcls compare``: from run folders to an answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import one_line, visible
from sppcls.cli.common import Parser
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.comparison import Comparison

_SHOWN = 12  # lines of one kind on the terminal; the report has all


def run(words: list[str]) -> int:
    """Compare; 0 also where nothing is shown to differ."""
    args = _parser().parse_args(words)
    paths = [Path(path) for path in args.paths]
    if any(path.suffix == ".npz" for path in paths):
        return _compare_files(paths, args.format, args)
    from sppcls.comparison import compare
    from sppcls.comparison.board.logdir import write_beside_runs
    from sppcls.comparison.conclusions import conclusions
    from sppcls.comparison.report import content
    from sppcls.comparison.report.class_mean import class_mean_table
    from sppcls.comparison.report.write import check_out, write_report

    if args.out is not None:
        check_out(args.out)
    comparison = compare(paths, args.baseline)
    out = check_out(args.out or _default_out(paths))
    headline, on_test = content.headline(comparison), content.on_test(comparison)
    tables = [content.groups_table(comparison)]
    if headline:
        tables.append(
            content.differences_table(f"Differences in {comparison.name_of(comparison.main)}", headline)
        )
    if on_test:
        tables.append(
            content.differences_table(f"Differences in {comparison.name_of(comparison.test[0])}", on_test)
        )
    class_mean = class_mean_table(comparison)
    if class_mean is not None:
        tables.append(class_mean)
    measures = content.measures_table(comparison)
    if measures is not None:
        tables.append(measures)
    equal_cost = content.equal_cost_table(comparison)
    if equal_cost is not None:
        tables.append(equal_cost)
    if args.format != "text":
        print(visible("\n\n".join(getattr(table, args.format)().rstrip("\n") for table in tables)))
    else:
        for found in conclusions([finding for finding in headline if finding.top == 1]):
            print(
                visible(
                    f"{found.question} {found.answer.upper()}\n  {found.sentence}\n  {found.detail}\n  {found.outlook}\n"
                )
            )
        print(visible(content.introduction(comparison)))
        print(visible(f"\n{tables[0].text()}"))
        if class_mean is not None:
            print(visible(f"\n{class_mean.title}\n{class_mean.text()}"))
        if measures is not None:
            print(visible(f"\n{measures.text()}"))
        if equal_cost is not None:
            print(visible(f"\n{equal_cost.title}\n{equal_cost.text()}"))
        lines = [str(finding) for finding in headline + on_test if finding.top == 1]
        lines += [f"{who}: not compared: they {reason}" for who, reason in content.refusals(comparison)]
        if lines:
            print()
        print(visible("\n".join(_shortened(lines))))
        print(visible(f"\n{content.VERDICT_RULE}\n{_of_epoch(comparison)}mean ± std (seeds)."))
    page = write_report(comparison, out)
    write_beside_runs(comparison, out)
    if args.format == "text":
        print(visible(f"Report: {page}"))
    else:
        print(one_line(f"sppcls: report: {page}"), file=sys.stderr)
    for problem in _shortened(comparison.problems):
        print(one_line(f"sppcls: {problem}"), file=sys.stderr)
    return 0


def _of_epoch(comparison: Comparison) -> str:
    from sppcls.comparison.answers import DETECTION

    of_detectors = comparison.main.protocol == DETECTION
    return (
        f"{comparison.main.error()}: lower is better; "
        if of_detectors
        else "Errors are in per cent, of the last epoch, "
    )


def _compare_files(paths: list[Path], form: str, args: object) -> int:
    from sppcls.comparison.prediction_files import compare_files

    for path in paths:
        if path.suffix != ".npz":
            raise ConfigError(f"{path}: name run folders, or .npz files of predictions, not both")
    for option in ("out", "baseline"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option}: is for run folders; files of predictions are only printed")
    errors, differences, sentences = compare_files(paths)
    if form != "text":
        print(visible("\n\n".join(getattr(table, form)().rstrip("\n") for table in (errors, differences))))
        return 0
    print(visible(f"{errors.text()}\n"))
    print(visible("\n".join(sentences)))
    return 0


def _default_out(paths: list[Path]) -> Path:
    return (paths[0] if len(paths) == 1 else Path()) / "comparison"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} more in the report"]


def _parser() -> Parser:
    parser = Parser(
        "compare",
        "Group runs by what was varied, with seeds as replicates, and say what they show: mean and standard\n"
        "deviation, paired differences with 95 % intervals over seeds and over images, and in plain words\n"
        "whether a difference is shown. Runs that differ in more than one thing are not compared. Writes a\n"
        "report: comparison.html (one file, with pictures), .md, .csv, .tex and the pictures.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="run folders, a sweep's folder, any folder above them; or .npz files of predictions",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where the report goes (PATH/comparison, or ./comparison for several); an older report is replaced",
    )
    parser.add_argument(
        "--baseline",
        metavar="GROUP",
        help="compare groups with this one only, where they differ in one thing (default: each such pair)",
    )
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "csv", "latex"),
        default="text",
        help="how tables are printed (text)",
    )
    return parser
