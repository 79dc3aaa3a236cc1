"""Writing a comparison down: Markdown, CSV, LaTeX, pictures, and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import os
from pathlib import Path

from sppcls._util.console import printable
from sppcls._util.files import replacing
from sppcls.comparison.conclusions import Conclusion
from sppcls.comparison.groups import Comparison
from sppcls.comparison.report import content
from sppcls.comparison.report.content import Content
from sppcls.comparison.report.notes import reading_notes
from sppcls.comparison.report.pictures import DPI, pictures, png
from sppcls.comparison.report.tables import Table, bullets
from sppcls.errors import ConfigError
from sppcls.runs.names import COMPARISON_EVENTS, MEAN

# All that a report may consist of: a folder with anything else in it is not ours to write to.
FILES = ("comparison.html", "comparison.md", "comparison.csv", "comparison.tex", "differences.csv",
         "differences.png", "error_by_group.png", "error_by_size.png", "error_by_cost.png")  # fmt: skip


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
            other = sorted({entry.name for entry in folder.iterdir()} - {*FILES, COMPARISON_EVENTS, MEAN})
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
    found = Content.of(comparison)
    drawn = pictures(comparison, [f for conclusion in found.conclusions for f in conclusion.findings])
    images = {name: (caption, png(figure)) for name, (caption, figure) in drawn.items()}
    files: dict[str, bytes] = {f"{name}.png": image for name, (_, image) in images.items()}
    texts = {
        "comparison.md": _markdown(comparison, found, images),
        "comparison.csv": content.groups_table(comparison, every_measure=True).csv(),
        "comparison.tex": "\n\n".join(t.latex() for name, t in found.tables.items() if name != "runs") + "\n",
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


def _markdown(comparison: Comparison, found: Content, images: dict[str, tuple[str, bytes]]) -> str:
    parts = ["# Comparison"]
    for c in found.conclusions:
        parts.append(f"**{c.question} {c.answer}.** {' '.join(c.lines)}")
    parts.append(content.introduction(comparison))
    parts.append(bullets(found.sentences))
    for table in found.tables.values():
        parts += [f"## {table.title}", table.markdown()]
    parts += [f"![{caption}]({name}.png)" for name, (caption, _) in images.items()]
    parts += ["## How to read this", bullets(reading_notes(comparison))]
    if comparison.problems:
        parts += ["## Left out, or only in part", bullets(comparison.problems)]
    return "\n\n".join(part for part in parts if part) + "\n"


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #5a5a5a; --paper: #fff; --line: #ddd; --card: #f5f6f7; --yes: #0a6b3d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #aaa; --paper: #17191c; --line: #3a3d42; --card: #22252a; --yes: #5fd08f; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1400px;
  margin: 1.2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
.answer { background: var(--soft); color: var(--paper); border-radius: 6px; padding: 0 .5rem; white-space: nowrap; }
.answer.shown { background: var(--yes); }
.lead, figcaption { color: var(--soft); } .lead { margin: .3rem 0 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1rem 2rem; align-items: start; }
.conclusion { background: var(--card); border-radius: 8px; padding: .8rem 1.2rem; margin: 0 0 .8rem; }
.conclusion p { margin: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { border-bottom: 2px solid var(--soft); font-weight: 600; } td { white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
.conclusion th:first-child, .conclusion td:first-child { background: var(--card); }
.words td { white-space: normal; overflow-wrap: anywhere; }
.wide { font-size: 12.5px; } .wide th, .wide td { padding: .25rem .4rem; }
.wide td:first-child { white-space: normal; min-width: 9rem; }
.wide td:last-child { white-space: normal; min-width: 13rem; }
li { margin: .25rem 0; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
figure { margin: 0; } figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; } figcaption { font-size: 13px; }
.problems { color: #b0521a; }
@media print { body { font-size: 11px; margin: 0; padding: 0; } figure, .conclusion, tr { break-inside: avoid; }
  table, .wide { font-size: 9px; } th, td, .wide th, .wide td { padding: .15rem .25rem; } td { white-space: normal; }
  details::details-content { content-visibility: visible; height: auto; } }
"""


def _html(comparison: Comparison, found: Content, images: dict[str, tuple[str, bytes]]) -> str:
    figures = {name: _figure(name, caption, image) for name, (caption, image) in images.items()}
    body = [_conclusion(each) for each in found.conclusions]
    if not found.headline:
        body.append("<h1>Comparison</h1><p>No two groups can be compared; see below.</p>")
    body.append(f'<p class="lead">{html.escape(content.introduction(comparison))}</p>')
    body.append(
        f'<div class="pair">{"".join(figures.pop(n, "") for n in ("differences", "error_by_group"))}</div>'
    )
    tables = dict(found.tables)
    if legend := tables.pop("legend", None):
        body += [_heading(legend.title), _html_table(legend, "words")]
    groups = tables["groups"]
    body += [_heading(groups.title), _html_table(content.for_a_screen(groups))]
    if figures:
        body += [_heading("Sizes and costs"), f'<div class="pair">{"".join(figures.values())}</div>']
    if equal_cost := tables.pop("equal_cost", None):
        body += [_heading(equal_cost.title), _html_table(equal_cost)]
    if tests := [str(finding) for finding in found.on_test if finding.top == 1]:
        body += [_heading("On the test images"), _list(tests)]
    body.append(_heading("More"))
    if found.headline:
        body.append(_folded("Each pair in words", _list([str(f) for f in found.headline if f.top == 1])))
    kinds = {"not_compared": "words", "runs": "words"}
    for name, table in tables.items():
        title = "Groups, every figure" if table is groups else table.title
        kind = "wide" if name.startswith("differences") else kinds.get(name, "")
        body.append(_folded(title, _html_table(table, kind)))
    body.append(_folded("How to read this", _list(reading_notes(comparison))))
    if comparison.problems:
        body += [_heading("Left out, or only in part"), _list(comparison.problems, "problems")]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Comparison</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _conclusion(found: Conclusion) -> str:
    """Question and answer, and a row for each pair behind it."""
    shown = " shown" if found.shown else ""
    return (
        f'<div class="conclusion"><h1>{html.escape(found.question)} '
        f'<span class="answer{shown}">{html.escape(found.answer)}</span></h1>'
        f"<p>{html.escape(found.sentence)}</p>"
        f"{_html_table(content.conclusion_table(found))}<p>{html.escape(found.outlook)}</p></div>"
    )


def _figure(name: str, caption: str, image: bytes) -> str:
    source = base64.b64encode(image).decode()
    return (
        f'<figure><img alt="{html.escape(name)}" width="{_width(image)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def _folded(title: str, inner: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{inner}</details>"


def _width(png: bytes) -> int:
    """In CSS pixels; a PNG says its own width in bytes 16 to 19. Pictures of any width get letters of one size."""
    return int.from_bytes(png[16:20], "big") * 100 // DPI


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
