"""What a trained network is used for: predictions (:func:`sppcls.predict`) and features; packages of it explain, export and transfer."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.inference.features import Features as Features
    from sppcls.inference.features import extract_features as extract_features
    from sppcls.inference.features import write_features as write_features
    from sppcls.inference.layers import layer_names as layer_names
    from sppcls.inference.predict import Prediction as Prediction
    from sppcls.inference.views import View as View
    from sppcls.inference.views import choose_view as choose_view

__getattr__, __dir__ = public(__name__)
