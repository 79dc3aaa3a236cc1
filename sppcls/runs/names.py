"""Names of what lies in a run folder, and in the folder of a sweep or a search."""

from __future__ import annotations

CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULT = "result.json"
CLASSES = "classes.csv"
LOG = "train.log"
LAST = "last.ckpt"
BEST = "best.ckpt"
PREVIOUS = "previous.ckpt"
# Folders with the answers to every image: of the validation and the test, and of protocols.
PREDICTIONS = "predictions"
PROTOCOLS = "protocols"
PICTURES = "pictures"

SWEEP = "sweep.json"
SEARCH = "search.json"
