"""One private hash from which every random choice of the data part is derived.

A choice that is a pure function of *what* it is for (seed, purpose, epoch, image) is the same on every rank,
in every worker process, and after a resume; a random state that is carried along is none of these.
"""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """Hash ``parts`` to a uniformly distributed integer in ``[0, 2**63)``, the same on every machine."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
