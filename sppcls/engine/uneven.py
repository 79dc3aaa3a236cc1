"""What the start of a run says of uneven classes."""

from __future__ import annotations

from sppcls._util.console import one_line
from sppcls.config.schema import Config
from sppcls.data import Source
from sppcls.data.balance import BALANCED, PLAIN, UNEVEN, class_counts
from sppcls.data.label_sets import is_multi_label


def uneven_line(config: Config, train: Source) -> str | None:
    """How uneven the classes are, and what the run does about it; None where they are even and nothing is done."""
    counts = class_counts(train.targets, len(train.classes))
    most, fewest = max(counts), min(counts)
    done = []
    if config.data.sampler != PLAIN:
        balance = "" if config.data.balance == 1 else f" {config.data.balance:g}"
        balanced = config.data.sampler == BALANCED
        done.append(f"sampler {BALANCED}{balance}" if balanced else "sampler weighted by class")
    if config.loss.class_weights is not None:
        done.append("loss weighted by class")
    if config.loss.name == "logit_adjusted":
        done.append("logits adjusted")
    if config.loss.name == "asymmetric":
        done.append("asymmetric loss")
    if most < UNEVEN * fewest and not done:
        return None
    names = [one_line(train.classes[counts.index(count)]) for count in (most, fewest)]
    text = f"{most:,} training images of {names[0]}, {fewest:,} of {names[1]}"
    if most == fewest:
        text = f"no: {most:,} training images of each class"
    ways = f"data.sampler={BALANCED}, loss=logit_adjusted, best_by=class_mean_error"
    if is_multi_label(train):
        ways = f"loss.class_weights={BALANCED}, loss=asymmetric"
    advice = f"nothing is done about it: {ways}"
    whole = (
        config.data.sampler == BALANCED and config.data.balance == 1,
        config.loss.class_weights == BALANCED,
        config.loss.name == "logit_adjusted",
    )
    too_much = ": each alone is enough, together they favour rare classes" if sum(whole) > 1 else ""
    return f"{text}; {', '.join(done) or advice}{too_much}"
