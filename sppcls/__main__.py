"""``python -m sppcls`` is the command ``sppcls``."""

import sys

from sppcls.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
