"""The Lightning callbacks of a training run."""

__all__: list[str] = []
