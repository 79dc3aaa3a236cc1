"""Test protocols: which views of an image a network sees, and how their scores become one answer (:func:`sppcls.evaluate`)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.config.early import protocol_names as protocol_names
    from sppcls.evaluation.evaluate import Result as Result
    from sppcls.evaluation.evaluator import evaluate_protocol as evaluate_protocol
    from sppcls.evaluation.predictions import Predictions as Predictions
    from sppcls.evaluation.protocols import Protocol as Protocol
    from sppcls.evaluation.protocols import Views as Views
    from sppcls.evaluation.protocols import load_protocol as load_protocol
    from sppcls.evaluation.protocols import load_protocols as load_protocols

__getattr__, __dir__ = public(__name__)
