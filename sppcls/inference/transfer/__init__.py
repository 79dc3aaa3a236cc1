"""Linear SVMs on the features of a network (:func:`sppcls.transfer`)."""

from sppcls.inference.transfer.tasks import Task
from sppcls.inference.transfer.transfer import LayerScore, TransferTable

__all__ = ["LayerScore", "Task", "TransferTable"]
