"""A logger of Lightning's; ``folder`` is that of the run, and given by sppcls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only


class JSONLines(Logger):
    """One line of JSON for everything that is logged.

    Args:
        folder: of the run.
        file: its name there.
    """

    def __init__(self, folder: Path, file: str = "figures.jsonl") -> None:
        super().__init__()
        self._path = Path(folder) / file

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._write({"hyperparameters": dict(params)})

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._write({"step": step, **metrics})

    def _write(self, values: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values, default=float) + "\n")
