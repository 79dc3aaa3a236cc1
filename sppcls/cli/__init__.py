"""One module per command of ``sppcls``: its arguments, nothing else. Heavy imports happen when a command runs."""

__all__: list[str] = []
