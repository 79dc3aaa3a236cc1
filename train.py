"""Train an SPP classifier: ``python train.py --help``."""

import sys

from sppcls.cli.main import train_main

if __name__ == "__main__":
    sys.exit(train_main())
