"""Test protocols: which views of an image a network sees, and how their scores become one answer (:func:`sppcls.evaluate`)."""

from sppcls.config.early import protocol_names
from sppcls.evaluation.evaluate import Result
from sppcls.evaluation.evaluator import evaluate_protocol
from sppcls.evaluation.predictions import Predictions
from sppcls.evaluation.protocols import Protocol, Views, load_protocol, load_protocols

__all__ = [
    "Predictions", "Protocol", "Result", "Views", "evaluate_protocol", "load_protocol", "load_protocols",
    "protocol_names",
]  # fmt: skip
