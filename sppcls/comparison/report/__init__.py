"""The report of a comparison: its content, tables, pictures and files."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.comparison.report.write import write_report as write_report

__getattr__, __dir__ = public(__name__)
