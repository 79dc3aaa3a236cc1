"""The configuration: its schema, its checks, how it is composed, and what is built from it."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.config.schema import Config as Config
    from sppcls.config.schema import as_dict as as_dict
    from sppcls.config.schema import default_values as default_values

__getattr__, __dir__ = public(__name__)
