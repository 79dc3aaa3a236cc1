"""Linear SVMs on the features of a network (:func:`sppcls.transfer`)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.inference.transfer.tasks import Task as Task
    from sppcls.inference.transfer.transfer import LayerScore as LayerScore
    from sppcls.inference.transfer.transfer import TransferTable as TransferTable

__getattr__, __dir__ = public(__name__)
