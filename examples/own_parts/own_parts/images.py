"""Images from a CSV file of one's own: two map-style Datasets of (image, class number) are all that is needed."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from sppcls.registry import register


class CSVImages(Dataset[tuple[Image.Image, int]]):
    """The rows ``file,kind`` of one split; ``targets`` spares reading every image for its class."""

    def __init__(self, root: Path, rows: list[tuple[str, str]], classes: list[str]) -> None:
        self.root, self.rows, self.classes = root, rows, classes
        self.targets = [classes.index(kind) for _, kind in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(self.root / self.rows[index][0]), self.targets[index]


@register("data", "csv_images")
def csv_images(table: str, every: int = 5) -> tuple[CSVImages, CSVImages]:
    """Training and validation images of a CSV file with the columns ``file`` and ``kind``.

    Args:
        table: the file; images lie beside it.
        every: each so-many-th row is kept for validation.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = [(row["file"], row["kind"]) for row in csv.DictReader(file)]
    classes = sorted({kind for _, kind in rows})
    val = rows[::every]
    train = [row for number, row in enumerate(rows) if number % every]
    return CSVImages(Path(table).parent, train, classes), CSVImages(Path(table).parent, val, classes)
