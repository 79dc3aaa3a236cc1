"""sppcls: image classification with spatial pyramid pooling, for images of any size."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public
from sppcls._version import __version__ as __version__

if TYPE_CHECKING:
    from sppcls.comparison import compare as compare
    from sppcls.config.compose import compose as compose
    from sppcls.detection.detector import load_detector as load_detector
    from sppcls.detection.predict import detect as detect
    from sppcls.detection.train import train_detector as train_detector
    from sppcls.engine.train import train as train
    from sppcls.evaluation.evaluate import evaluate as evaluate
    from sppcls.inference.ensemble import ensemble as ensemble
    from sppcls.inference.explain.explanation import explain as explain
    from sppcls.inference.export.export import export as export
    from sppcls.inference.features import extract_features as extract_features
    from sppcls.inference.predict import predict as predict
    from sppcls.inference.transfer.transfer import transfer as transfer
    from sppcls.runs.checkpoint import load_classifier as load_classifier

# When they are asked for, so that `import sppcls.nn` needs neither Lightning nor Hydra.
__getattr__, __dir__ = public(__name__, "__version__")
