"""Object detection with the regions of a network's feature maps (He et al. 2015, sec. 4)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.detection.ap import ClassResult as ClassResult
    from sppcls.detection.ap import Detections as Detections
    from sppcls.detection.ap import Result as Result
    from sppcls.detection.ap import judge as judge
    from sppcls.detection.detector import Detector as Detector
    from sppcls.detection.predict import Found as Found
    from sppcls.detection.predict import detect_set as detect_set
    from sppcls.detection.sets import read_set as read_set
    from sppcls.detection.train import Settings as Settings
    from sppcls.detection.truth import DetectionSet as DetectionSet
    from sppcls.detection.truth import Truth as Truth

__getattr__, __dir__ = public(__name__)
