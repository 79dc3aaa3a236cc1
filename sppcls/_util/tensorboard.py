"""TensorBoard's address, so that it opens on what was asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

TIME_SERIES = "http://localhost:6006/?smoothing=0#timeseries"
"""Time Series of a TensorBoard that was started by hand, nothing smoothed: short enough for a line of a terminal."""


def time_series(pinned: Sequence[str], image: tuple[str, str] | None = None, **more: str) -> str:
    """What to add to TensorBoard's address for its Time Series, nothing smoothed.

    Args:
        pinned: tags of scalars that are pinned at the top.
        image: run and tag of a picture that is pinned before them.
        more: further parts of the query, such as ``runFilter``.
    """
    cards: list[dict[str, str | int]] = [{"plugin": "scalars", "tag": tag} for tag in pinned]
    if image is not None:
        run, tag = image
        cards.insert(0, {"plugin": "images", "tag": tag, "runId": f"defaultExperimentId/{run}", "sample": 0})
    query = {"smoothing": "0", **more, "pinnedCards": json.dumps(cards, separators=(",", ":"))}
    return f"?{'&'.join(f'{key}={quote(value)}' for key, value in query.items())}#timeseries"
