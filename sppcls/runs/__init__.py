"""What lies in a run folder, and who may write it."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.runs.checkpoint import AtomicCheckpointIO as AtomicCheckpointIO
    from sppcls.runs.checkpoint import make_model_info as make_model_info
    from sppcls.runs.checkpoint import read_checkpoint as read_checkpoint
    from sppcls.runs.folder import read_result as read_result
    from sppcls.runs.metrics import Metrics as Metrics
    from sppcls.runs.metrics import read_metrics as read_metrics

__getattr__, __dir__ = public(__name__)
