"""What the Python functions take as a network."""

from __future__ import annotations

from typing import Any

from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


def card_of(net: object) -> dict[str, Any]:
    """The card that :func:`sppcls.load_classifier` gives a network.

    Raises:
        ConfigError: something else than a network of sppcls, or one without a card.
    """
    if not isinstance(net, SPPClassifier):
        raise ConfigError(
            f"net: a {type(net).__name__}, a network of sppcls is needed; take it from sppcls.load_classifier(CHECKPOINT)"
        )
    card = getattr(net, "card", None)
    if not isinstance(card, dict):
        raise ConfigError("net: has no card with classes, mean and std; take it from sppcls.load_classifier")
    return card
