"""One table, written as text, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

from sppcls._util.console import table as aligned
from sppcls.comparison.statistics import mean_and_std


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (None: one value only) and number of values of a cell; shown as ``22.1 ± 1.3 (3)``."""

    mean: float
    std: float | None
    n: int
    digits: int = 2

    @classmethod
    def of(cls, values: Collection[float], digits: int = 2) -> Spread | None:
        """That of some values; None without any."""
        return cls(*mean_and_std([*values]), len(values), digits) if values else None

    def __str__(self) -> str:
        std = "" if self.std is None else f" ± {self.std:.{self.digits}f}"
        return f"{self.mean:.{self.digits}f}{std} ({self.n})"


Cell = str | Spread | None


@dataclass
class Table:
    """Rows of cells; a cell is a text, a :class:`Spread`, or None where nothing is known."""

    title: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def used(self) -> Table:
        """The same without the columns in which nothing is known."""
        columns = range(len(self.header))
        return self.only([any(row[i] not in (None, "") for row in self.rows) for i in columns])

    def only(self, kept: Sequence[bool]) -> Table:
        """The columns that are kept, a truth value for each."""
        rows = [list(compress(row, kept)) for row in self.rows]
        return Table(self.title, list(compress(self.header, kept)), rows)

    def text(self, columns: int | None = None) -> str:
        """Aligned columns; of a terminal of ``columns`` those that do not fit follow below."""
        return aligned([[_plain(cell) for cell in row] for row in self.rows], self.header, columns)

    def markdown(self) -> str:
        """A Markdown table."""

        def line(cells: Sequence[str]) -> str:
            escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
            return "| " + " | ".join(escaped) + " |"

        rule = "|" + "---|" * len(self.header)
        return "\n".join([line(self.header), rule, *(line([_plain(c) for c in row]) for row in self.rows)])

    def csv(self) -> str:
        """Comma-separated values; a column of spreads becomes three: mean, ``... std`` and ``... n``."""
        columns: list[list[str]] = []
        for i, name in enumerate(self.header):
            cells = [row[i] for row in self.rows]
            columns.append([name, *(f"{c.mean:.6g}" if isinstance(c, Spread) else c or "" for c in cells)])
            if any(isinstance(cell, Spread) for cell in cells):
                known = [cell if isinstance(cell, Spread) else None for cell in cells]
                columns.append(
                    [f"{name} std", *(f"{c.std:.6g}" if c and c.std is not None else "" for c in known)]
                )
                columns.append([f"{name} n", *(str(c.n) if c else "" for c in known)])
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
        return out.getvalue()

    def latex(self) -> str:
        """A ``tabular`` with the booktabs rules, escaped."""

        def line(cells: Sequence[str]) -> str:
            return "  " + " & ".join(latex_escape(cell).replace("±", r"$\pm$") for cell in cells) + r" \\"

        body = [line([_plain(cell) for cell in row]) for row in self.rows]
        columns = "l" + "r" * (len(self.header) - 1)
        top = [rf"\begin{{tabular}}{{{columns}}}", r"  \toprule", line(self.header), r"  \midrule"]
        return "\n".join([f"% {self.title}", *top, *body, r"  \bottomrule", r"\end{tabular}"])


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def _plain(cell: Cell) -> str:
    return "" if cell is None else str(cell)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text)
