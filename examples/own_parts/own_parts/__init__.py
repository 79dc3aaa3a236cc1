"""Parts for sppcls in a package of one's own. Importing it registers their short names."""

from own_parts import callbacks, images, loggers, losses, networks, pooling, rates, sizes

__all__ = ["callbacks", "images", "loggers", "losses", "networks", "pooling", "rates", "sizes"]
