"""TensorBoard laid out for a comparison."""

from sppcls.comparison.board.logdir import write_board

__all__ = ["write_board"]
