"""A network as a file for other runtimes (:func:`sppcls.export`)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.inference.export.graph import ExportedClassifier as ExportedClassifier

__getattr__, __dir__ = public(__name__)
