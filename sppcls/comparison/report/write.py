"""Writing a comparison down: Markdown, CSV, LaTeX, pictures, and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path

from matplotlib.figure import Figure

from sppcls._util.console import printable
from sppcls._util.files import replacing
from sppcls.comparison.findings import Verdict
from sppcls.comparison.groups import Comparison
from sppcls.comparison.report import content
from sppcls.comparison.report.pictures import pictures
from sppcls.comparison.report.tables import Table
from sppcls.errors import ConfigError

# All that a report may consist of: a folder with anything else in it is not ours to write to.
FILES = ("comparison.html", "comparison.md", "comparison.csv", "comparison.tex", "differences.csv",
         "error_by_group.png", "error_by_size.png", "error_by_cost.png")  # fmt: skip


_DPI = 150


class _Content:
    """Everything that the files of a report say, found once."""

    def __init__(self, comparison: Comparison) -> None:
        self.headline = content.headline(comparison)
        self.on_test = content.on_test(comparison)
        self.elsewhere = content.elsewhere(comparison)
        self.groups = content.groups_table(comparison)
        self.refused = content.refusals_table(comparison)
        self.runs = content.runs_table(comparison)
        sections = {
            f"Differences, {comparison.main}": self.headline,
            f"Differences on the test images, {', '.join(map(str, comparison.test[:1]))}": self.on_test,
            "Differences at other sizes and protocols": self.elsewhere,
        }
        main, test, other = (
            content.differences_table(title, found) if found else None for title, found in sections.items()
        )
        self.differences = (main, test, other)
        found = (self.groups, main, test, content.measures_table(comparison), other, self.refused, self.runs)
        self.tables = [table for table in found if table is not None]


def check_out(folder: str | os.PathLike[str]) -> Path:
    """A folder that a report may be written to: a new one, an empty one, or one with an older report.

    Raises:
        ConfigError: it holds something else, or cannot be written.
    """
    folder = Path(folder)
    try:
        if folder.exists():
            if not folder.is_dir():
                raise ConfigError(f"--out {folder}: is not a folder")
            other = sorted({entry.name for entry in folder.iterdir()} - {*FILES})
            if other:
                raise ConfigError(
                    f"--out {folder}: holds {other[0]}, which is of no report; name another folder with --out"
                )
        above = next(place for place in (folder, *folder.resolve().parents) if place.exists())
        if not os.access(above, os.W_OK):
            raise ConfigError(
                f"--out {folder}: cannot be written (permission denied); name another with --out"
            )
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written ({error.strerror})") from None
    return folder


def write_report(comparison: Comparison, out: str | os.PathLike[str]) -> Path:
    """Write every file of the report, each at once, over those of an earlier report.

    Args:
        comparison: from :func:`sppcls.compare`.
        out: folder; see :func:`check_out`.

    Returns:
        The HTML page.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
    """
    folder = check_out(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made ({error.strerror})") from None
    found = _Content(comparison)
    images = {name: (caption, _png(figure)) for name, (caption, figure) in pictures(comparison).items()}
    files: dict[str, bytes] = {f"{name}.png": image for name, (_, image) in images.items()}
    texts = {
        "comparison.md": _markdown(comparison, found, images),
        "comparison.csv": content.groups_table(comparison, every_measure=True).csv(),
        "comparison.tex": "\n\n".join(table.latex() for table in found.tables[:-1]) + "\n",
        "comparison.html": _html(comparison, found, images),
    }
    if found.headline:
        every = found.headline + found.on_test + found.elsewhere
        texts["differences.csv"] = content.differences_table("", every).csv()
    files.update({name: printable(text).encode() for name, text in texts.items()})
    for name in FILES:
        if name in files:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(files[name])
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier report, and no longer true
    return folder / "comparison.html"


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI)
    return out.getvalue()


def _markdown(comparison: Comparison, found: _Content, images: dict[str, tuple[str, bytes]]) -> str:
    parts = ["# Comparison", content.introduction(comparison)]
    parts.append("\n".join(f"- {finding}" for finding in found.headline + found.on_test if finding.top == 1))
    for table in found.tables:
        parts += [f"## {table.title}", table.markdown()]
    parts += [f"![{caption}]({name}.png)" for name, (caption, _) in images.items()]
    parts += ["## How to read this", "\n".join(f"- {note}" for note in content.reading_notes(comparison))]
    if comparison.problems:
        parts += ["## Left out, or only in part", "\n".join(f"- {line}" for line in comparison.problems)]
    return "\n\n".join(part for part in parts if part) + "\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1280px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.lead { color: #555; margin-top: 0; }
.scroll { overflow-x: auto; background: linear-gradient(to left, #fff 40%, #fff0) right / 40px 100% no-repeat local,
  linear-gradient(to left, #0004, #0000) right / 12px 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; } td { white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.wide { font-size: 12.5px; } .wide th, .wide td { padding: .25rem .45rem; }
.wide td:first-child { white-space: normal; min-width: 9rem; }
.wide td:last-child { white-space: normal; min-width: 13rem; }
li { margin: .25rem 0; }
.finding { border-left: 4px solid #bbb; padding: .35rem .8rem; margin: .5rem 0; background: #f7f7f7; }
.finding.shown { border-color: #2e8540; background: #eef6ef; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; } figcaption { color: #555; font-size: 13.5px; }
.problems { color: #8a3b00; }
"""


def _html(comparison: Comparison, found: _Content, images: dict[str, tuple[str, bytes]]) -> str:
    def heading(text: str) -> str:
        return f"<h2>{html.escape(text)}</h2>"

    body = ["<h1>Comparison</h1>", f'<p class="lead">{html.escape(content.introduction(comparison))}</p>']
    for finding in (finding for finding in found.headline + found.on_test if finding.top == 1):
        kind = "finding shown" if finding.verdict == Verdict.SHOWN else "finding"
        body.append(
            f'<p class="{kind}">{html.escape(finding.subject)}: <b>{html.escape(str(finding.verdict))}</b>. '
            f"{html.escape(finding.grounds)}</p>"
        )
    if not found.headline:
        body.append('<p class="finding">No two groups can be compared; see below.</p>')
    body += [heading(found.groups.title), _html_table(found.groups)]
    for name, (caption, image) in images.items():
        source = base64.b64encode(image).decode()
        body.append(
            f'<figure><img alt="{html.escape(name)}" width="{_width(image)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    for table in found.tables[1:]:
        kind = (
            "words" if table in (found.refused, found.runs) else "wide" if table in found.differences else ""
        )
        body += [heading(table.title), _html_table(table, kind)]
    body += [heading("How to read this"), _list(content.reading_notes(comparison))]
    if comparison.problems:
        body += [heading("Left out, or only in part"), _list(comparison.problems, "problems")]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Comparison</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _width(png: bytes) -> int:
    """In CSS pixels; a PNG says its own width in bytes 16 to 19. Pictures of any width get letters of one size."""
    return int.from_bytes(png[16:20], "big") * 100 // _DPI


def _html_table(table: Table, kind: str = "") -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape('' if c is None else str(c))}</td>" for c in row) + "</tr>"
        for row in table.rows
    )
    # With a tabindex the arrow keys scroll what does not fit.
    return f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _list(lines: list[str], kind: str = "") -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>'
