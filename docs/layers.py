"""Draws explanation/layers.svg: the layers of sppcls, each importing only those below it."""

from __future__ import annotations

from pathlib import Path

# Rows from top to bottom; each box is a name and what it does.
ROWS = [
    [("cli", "train, sizes, doctor, predict, ...")],
    [("sweeps", "sweeps and search: many runs")],
    [("engine", "one run: Lightning, callbacks, resume")],
    [("detection", "boxes, proposals, SVMs on regions, mAP")],
    [
        ("comparison", "groups, statistics, report"),
        ("evaluation", "protocols, predictions"),
        ("inference", "predict, export, explain"),
    ],
    [("runs", "what lies in a run folder: checkpoints, names, locks")],
    [("config", "schema, checks, composition, building")],
    [("data", "sizes, sampler, decoding, sources"), ("nn", "pyramid, backbones, heads: torch alone")],
    [("_util, registry, errors", "what every package may use")],
]
WIDTH, HEIGHT, GAP = 720, 58, 14


def draw() -> str:
    """The picture as SVG text."""
    height = len(ROWS) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for i, row in enumerate(ROWS):
        y = GAP + i * (HEIGHT + GAP)
        width = (WIDTH - GAP * (len(row) + 1)) / len(row)
        for j, (name, text) in enumerate(row):
            x = GAP + j * (width + GAP)
            middle = x + width / 2
            parts += [
                f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{HEIGHT}" rx="6" fill="#e8eaf6" stroke="#3f51b5"/>',
                f'<text x="{middle:g}" y="{y + 25}" font-size="16" font-weight="bold" fill="#1a237e">{name}</text>',
                f'<text x="{middle:g}" y="{y + 45}" font-size="13" fill="#333333">{text}</text>',
            ]
        if i + 1 < len(ROWS):
            tip = y + HEIGHT + GAP
            parts.append(f'<path d="M{WIDTH / 2:g} {tip} l-6 -10 h12 z" fill="#3f51b5"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (Path(__file__).parent / "explanation" / "layers.svg").write_text(draw(), encoding="utf-8")
