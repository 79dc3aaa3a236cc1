"""Time and memory of hard-negative mining and the SVMs of every class, on pooled vectors.

    python benchmarks/detection_mining.py CKPT --data SET [--layer spp] [--passes 10] [--cache DIR]

Windows and maps are made first, and kept; they do not count. Peak memory is what the process has in memory (RSS). It has two
parts: its own data (anonymous), and pages of files such as the libraries' code, which the system can drop at any time.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sppcls import load_classifier
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.proposals import make_proposer, propose
from sppcls.detection.sets import read_set
from sppcls.detection.store import default_cache
from sppcls.detection.svm import SVMRules, train_svms
from sppcls.detection.window_set import WindowSet, norm_factor
from sppcls.nn.model_info import model_info_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--data", required=True, metavar="SET")
    parser.add_argument("--layer", default="spp")
    parser.add_argument("--passes", type=int, default=10, help="over all images, at most (10)")
    parser.add_argument("--cache", type=Path, default=default_cache())
    args = parser.parse_args()
    net, images = load_classifier(args.checkpoint), read_set(args.data)
    regions = Regions(net, RegionRules(region=min(model_info_of(net)["val_sizes"][0])))
    windows = propose(images, make_proposer("selective_search"), args.cache)
    maps = KeptMaps(regions, images, args.cache)
    maps.make()
    learning = WindowSet(images, windows, regions, maps)
    before, own_before = _peak(), _anonymous()
    clock, cpu = time.monotonic(), time.process_time()
    with _watched() as own:
        factor = norm_factor(learning, args.layer)
        _, mined = train_svms(learning, args.layer, factor, SVMRules(passes=args.passes))
    print(
        f"{len(images):,} images, {len(images.classes)} classes, vectors of {learning.features(0, args.layer).shape[1]:,}: "
        f"{mined.passes} passes, {min(mined.negatives):,} to {max(mined.negatives):,} negatives; "
        f"{time.monotonic() - clock:.0f} s, {time.process_time() - cpu:.0f} s of CPU; "
        f"peak memory {_peak():,.0f} MB, {max(own):,.0f} MB of it anonymous; before {before:,.0f} and {own_before:,.0f} MB"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _anonymous() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Anonymous memory, in MB, twenty times a second."""
    found, done = [_anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            found.append(_anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
