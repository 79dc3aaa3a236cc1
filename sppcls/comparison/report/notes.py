"""What a reader has to know to judge the numbers of a comparison."""

from __future__ import annotations

from sppcls.comparison.answers import DETECTION
from sppcls.comparison.equal_cost import COSTS, cost_differs
from sppcls.comparison.groups import Comparison
from sppcls.comparison.runs import Run
from sppcls.comparison.statistics import interval_half_width


def reading_notes(comparison: Comparison) -> list[str]:
    """What a reader has to know to judge the numbers."""
    runs = comparison.runs
    detectors = comparison.main.protocol == DETECTION
    last = (
        "Errors are those of the weights after the last epoch. The best epoch of a run is chosen on the very images "
        "that it is judged by, so its error flatters."
    )
    first = (
        "The error of a detector is what its mean average precision (VOC's rules, IoU 0.5) lacks of 100 per cent, so "
        "lower is better. Its intervals over images are of 1,000 resamples."
        if detectors
        else last
    )
    if comparison.main.multi_label:
        first = (
            "Images may have several labels: the error is what the mean average precision over the classes lacks of 100 per "
            f"cent, so lower is better. Its intervals over images are of 1,000 resamples. {last}"
        )
    notes = [first, "Cells are mean ± sample standard deviation over the seeds (number of seeds)."]
    if comparison.image_count and not comparison.main.of_precision:
        count = comparison.image_count
        notes.append(f"Tested on {count:,} images: one image is {100 / count:.3g} points.")
    limited = [run for run in runs if (run.config.get("trainer") or {}).get("limit_val_batches")]
    if limited:
        notes.append(
            f"{len(limited)} of {len(runs)} runs were validated with trainer.limit_val_batches: on a part of the images, "
            "spread over the classes."
        )
    notes += _test_notes(comparison, runs)
    if 5 not in comparison.tops and not comparison.main.of_precision:
        notes.append("Every top-5 error is 0, as it is with at most five classes, and left out.")
    if comparison.pairs:
        notes.append(
            "A difference is A minus B, paired by seed: below 0 A has the lower error. It counts as shown if its t interval over the seeds "
            "excludes 0 after Holm's correction for the number of pairs and pooled lines, and, where the answers "
            "for every image were kept, the bootstrap interval over the images (errors averaged over the seeds, 10,000 "
            "resamples) excludes 0 too. 'No difference shown' does not mean that there is none. The intervals themselves "
            "are not corrected. The pooled lines average the difference over several pairs, seed by seed."
        )
    if comparison.pairs and len(comparison.measures) > 1:
        notes.append(
            f"The measure to decide by is {comparison.name_of(comparison.main, 1)}, chosen beforehand. Of many other sizes and protocols some "
            "differ by chance: there the correction is for all of them and all pairs together."
        )
    most = max((len(group.runs) for group in comparison.groups), default=0)
    if comparison.pairs and 2 <= most <= 4:
        half = interval_half_width(most)
        notes.append(
            f"Few seeds show large differences only: with {most} the interval reaches {half:.1f} standard deviations of "
            f"the difference to each side, with 5 it would be {interval_half_width(5):.1f}."
        )
    alone = [group.label for group in comparison.groups if len(group.runs) == 1]
    if alone:
        notes.append(f"One seed only, so no spread and no interval over seeds: {', '.join(alone)}.")
    if any(cost_differs(comparison, cost) for cost in COSTS):
        notes.append(
            "An error at equal cost is that of a training under way, between two validations. One that was planned for this "
            "cost would have lowered its learning rate by then, and may have ended lower."
        )
    if comparison.unit == "fold":
        notes = [note.replace("seed", "fold").replace("Seed", "Fold") for note in notes]
        notes.append(
            "Each fold trains on most of what the others train on. Intervals over folds are widened for it (Nadeau and Bengio 2003)."
        )
    return notes + _cost_notes(runs)


def _test_notes(comparison: Comparison, runs: list[Run]) -> list[str]:
    """What to know of errors on the test images, where there are any."""
    if not comparison.test:
        return []
    measure = comparison.test[0]
    have = [run for run in runs if measure in run.errors]
    counts = sorted({len(run.answers[measure]) for run in have if measure in run.answers})
    text = f"{counts[0]:,} test images" if len(counts) == 1 else "Test images"
    text += f" were looked at once, when training had finished ({len(have)} of {len(runs)} runs)"
    return [
        f"{text}. They have chosen neither an epoch nor a learning rate, so they are the better judge, of the last epoch "
        "and of the best one alike, as long as nobody chooses among many runs by them."
    ]


def _cost_notes(runs: list[Run]) -> list[str]:
    notes = []
    devices = {str(run.result["device"]) for run in runs if "device" in run.result}
    if len(devices) > 1:
        notes.append(f"Trained on different devices ({'; '.join(sorted(devices))}): times do not compare.")
    setups = {tuple(run.config.get(g, {}).get(k) for g, k in (("trainer", "threads"), ("data", "workers"))) for run in runs}  # fmt: skip
    if len(setups) > 1:
        notes.append("Trained with different trainer.threads or data.workers: times do not compare.")
    versions = {str(run.result["sppcls"]) for run in runs if "sppcls" in run.result}
    if len(versions) > 1:
        notes.append(f"Trained by different versions of sppcls: {', '.join(sorted(versions))}.")
    return notes
