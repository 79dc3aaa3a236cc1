"""Writing a comparison down: Markdown, CSV, LaTeX, pictures, and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from sppcls.comparison import content
from sppcls.comparison.groups import Comparison
from sppcls.comparison.pictures import pictures
from sppcls.comparison.tables import Table
from sppcls.console import printable
from sppcls.errors import ConfigError
from sppcls.files import replacing

# All that a report may consist of: a folder with anything else in it is not ours to write to.
FILES = ("comparison.html", "comparison.md", "comparison.csv", "comparison.tex", "differences.csv",
         "error_by_group.png", "error_by_size.png", "error_by_cost.png")  # fmt: skip


@dataclass
class _Content:
    groups: Table
    differences: Table | None
    measures: Table | None
    elsewhere: Table | None
    refused: Table | None
    runs: Table

    def tables(self) -> list[Table]:
        """In the order of reading."""
        found = (self.groups, self.differences, self.measures, self.elsewhere, self.refused, self.runs)
        return [table for table in found if table is not None]


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
    found, sentences = _collect(comparison)
    images = {name: (caption, _png(figure)) for name, (caption, figure) in pictures(comparison).items()}
    files: dict[str, bytes] = {f"{name}.png": image for name, (_, image) in images.items()}
    texts = {
        "comparison.md": _markdown(comparison, found, sentences, images),
        "comparison.csv": content.groups_table(comparison, every_measure=True).csv(),
        "comparison.tex": "\n\n".join(table.latex() for table in found.tables()[:-1]) + "\n",
        "comparison.html": _html(comparison, found, sentences, images),
    }
    differences = content.headline(comparison) + content.elsewhere(comparison)
    if differences:
        texts["differences.csv"] = content.differences_table("", differences).csv()
    files.update({name: printable(text).encode() for name, text in texts.items()})
    for name in FILES:
        if name in files:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(files[name])
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier report, and no longer true
    return folder / "comparison.html"


def _collect(comparison: Comparison) -> tuple[_Content, list[str]]:
    headline, elsewhere = content.headline(comparison), content.elsewhere(comparison)
    found = _Content(
        content.groups_table(comparison),
        content.differences_table(f"Differences, {comparison.main}", headline) if headline else None,
        content.measures_table(comparison),
        content.differences_table("Differences at other sizes and protocols", elsewhere)
        if elsewhere
        else None,
        content.refusals_table(comparison),
        content.runs_table(comparison),
    )
    return found, [str(finding) for finding in headline]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return out.getvalue()


def _markdown(
    comparison: Comparison, found: _Content, sentences: list[str], images: dict[str, tuple[str, bytes]]
) -> str:
    parts = ["# Comparison", content.introduction(comparison)]
    parts.append("\n".join(f"- {sentence}" for sentence in sentences))
    for table in found.tables():
        parts += [f"## {table.title}", table.markdown()]
    parts += [f"![{caption}]({name}.png)" for name, (caption, _) in images.items()]
    parts += ["## How to read this", "\n".join(f"- {note}" for note in content.reading_notes(comparison))]
    if comparison.problems:
        parts += ["## Left out, or only in part", "\n".join(f"- {line}" for line in comparison.problems)]
    return "\n\n".join(part for part in parts if part) + "\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1100px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.lead { color: #555; margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; } td { white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; }
li { margin: .25rem 0; }
.finding { border-left: 4px solid #bbb; padding: .35rem .8rem; margin: .5rem 0; background: #f7f7f7; }
.finding.shown { border-color: #2e8540; background: #eef6ef; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; } figcaption { color: #555; font-size: 13.5px; }
.problems { color: #8a3b00; }
"""


def _html(
    comparison: Comparison, found: _Content, sentences: list[str], images: dict[str, tuple[str, bytes]]
) -> str:
    def heading(text: str) -> str:
        return f"<h2>{html.escape(text)}</h2>"

    body = ["<h1>Comparison</h1>", f'<p class="lead">{html.escape(content.introduction(comparison))}</p>']
    for finding in content.headline(comparison):
        kind = "finding" if finding.verdict == "no difference shown" else "finding shown"
        body.append(
            f'<p class="{kind}">{html.escape(finding.subject)}: <b>{html.escape(str(finding.verdict))}</b>. '
            f"{html.escape(finding.grounds)}</p>"
        )
    if not sentences:
        body.append('<p class="finding">No two groups can be compared; see below.</p>')
    body += [heading(found.groups.title), _html_table(found.groups)]
    for name, (caption, image) in images.items():
        source = base64.b64encode(image).decode()
        body.append(
            f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    for table in found.tables()[1:]:
        words = table in (found.refused, found.runs)
        body += [heading(table.title), _html_table(table, "words" if words else "")]
    body += [heading("How to read this"), _list(content.reading_notes(comparison))]
    if comparison.problems:
        body += [heading("Left out, or only in part"), _list(comparison.problems, "problems")]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Comparison</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html_table(table: Table, kind: str = "") -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape('' if c is None else str(c))}</td>" for c in row) + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _list(lines: list[str], kind: str = "") -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>'
