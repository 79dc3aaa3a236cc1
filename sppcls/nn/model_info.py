"""What the Python functions take as a network."""

from __future__ import annotations

from typing import Any

from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


def model_info_of(net: object) -> dict[str, Any]:
    """What a checkpoint says of its network, as :func:`sppcls.load_classifier` gives it.

    Raises:
        ConfigError: something else than a network of sppcls, or one without a model_info.
    """
    if not isinstance(net, SPPClassifier):
        raise ConfigError(
            f"net: a {type(net).__name__}, a network of sppcls is needed; take it from sppcls.load_classifier(CHECKPOINT)"
        )
    model_info = getattr(net, "model_info", None)
    if not isinstance(model_info, dict):
        raise ConfigError(
            "net: has no model_info with classes, mean and std; take it from sppcls.load_classifier"
        )
    return model_info
