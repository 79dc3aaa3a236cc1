"""TensorBoard laid out for a comparison."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.comparison.board.logdir import write_board as write_board

__getattr__, __dir__ = public(__name__)
