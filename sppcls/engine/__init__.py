"""Training: the Lightning module, what it is made of, and the run around it (:func:`sppcls.train`)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.engine.build import make_module as make_module
    from sppcls.engine.learning_rate import LearningRate as LearningRate
    from sppcls.engine.learning_rate import Plateau as Plateau
    from sppcls.engine.learning_rate import lr_factor as lr_factor
    from sppcls.engine.losses import make_loss as make_loss
    from sppcls.engine.metrics import ErrorCounter as ErrorCounter
    from sppcls.engine.module import ClassificationModule as ClassificationModule
    from sppcls.engine.module import DivergedError as DivergedError
    from sppcls.engine.optimizer import make_optimizer as make_optimizer
    from sppcls.engine.state import RunState as RunState

__getattr__, __dir__ = public(__name__)
