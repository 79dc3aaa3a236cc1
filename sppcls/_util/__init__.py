"""Small helpers that every layer may use."""

__all__: list[str] = []
