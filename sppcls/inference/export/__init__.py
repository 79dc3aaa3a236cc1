"""A network as a file for other runtimes (:func:`sppcls.export`)."""

from sppcls.inference.export.graph import ExportedClassifier

__all__ = ["ExportedClassifier"]
