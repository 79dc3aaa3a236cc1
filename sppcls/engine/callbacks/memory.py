"""Whether a training step fits into memory: looked at before the first one, reported in one line."""

from __future__ import annotations

import math
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback

from sppcls._util.allocator import give_back_freed_memory, keep_freed_memory
from sppcls._util.out_of_memory import is_out_of_memory
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sampler import batch_size_at
from sppcls.data.sizes import Size, area, size_label
from sppcls.data.transforms import prepare_batch
from sppcls.engine.module import ClassificationModule
from sppcls.errors import SppclsError

# The check costs one step. On a CPU, where memory seldom runs out, it is left out of trainings of fewer.
CPU_STEPS = 100

# Bytes for each thread that the look leaves unused on a CPU.
_SPARE = 8 << 20
# Exit statuses of a look in a process of its own.
_TOO_LARGE, _FAILED = 3, 4


class OutOfMemoryError(SppclsError):
    """A step needs more memory than there is."""


class MemoryCheck(Callback):
    """Does one step at the largest size and batch before the first real one, and leaves no trace of it.

    A run whose sizes grow would else find out hours later. Weights, statistics of normalisation layers and random
    numbers are afterwards what they were: a checked run and an unchecked one are the same bit for bit.

    Attributes:
        message: what to say when memory has run out all the same.
    """

    def __init__(self) -> None:
        self.message = ""
        self._keeps = self._over = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast(ClassificationModule, pl_module)
        epochs = (trainer.max_epochs or 0) - trainer.current_epoch
        on_cpu = module.device.type == "cpu"
        if not on_cpu or epochs * int(trainer.num_training_batches) >= CPU_STEPS:
            for size, images in _largest_steps(trainer, module):
                if not _fits(trainer, module, size, images):
                    raise OutOfMemoryError(_advice(trainer, module, size, images))
        if on_cpu:  # not before: what an attempt that failed leaves behind must not count in the next
            self._keeps = keep_freed_memory()

    def give_back(self) -> None:
        """However the training ended: to whoever trains from Python and does other things afterwards."""
        if self._keeps:
            give_back_freed_memory()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._over = True

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if not is_out_of_memory(exception):
            return
        module = cast(ClassificationModule, pl_module)
        if "DataLoader worker" in str(exception):
            self.message = (
                "a loader process is out of memory: choose fewer data.workers or a smaller data.batch_size"
            )
        elif not trainer.training:
            images = _datamodule(trainer).val_batch_size
            sizes = ", ".join(map(size_label, module.val_sizes))
            self.message = (
                f"data.val_batch_size={images}: out of memory in validation at {sizes}: choose a smaller one"
            )
        elif not module.state.started:
            self.message = (
                f"out of memory before the first step, on {module.device}: too little is left for this network; "
                "look at what else is in its memory, or choose a smaller network"
            )
        elif self._over:
            self.message = (
                "out of memory in the tests after the last epoch, which is saved: choose a smaller data.val_batch_size "
                "or fewer evaluation.protocols, and resume this run"
            )
        else:
            traceback.clear_frames(exception.__traceback__)  # they hold what the step had computed
            give_back_freed_memory()
            images = dict(_largest_steps(trainer, module)).get(module.size, _datamodule(trainer).batch_size)
            try:
                self.message = _advice(trainer, module, module.size, images, begun=True)
            except Exception:  # of what the step has left in disorder
                self.message = f"{_too_large(trainer, module.size, images)}: {_SMALLER}"


def _datamodule(trainer: pl.Trainer) -> ImageDataModule:
    return cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def _largest_steps(trainer: pl.Trainer, module: ClassificationModule) -> list[tuple[Size, int]]:
    """(size, images) of the steps that need most memory, on this process."""
    data = _datamodule(trainer)
    world, largest = trainer.world_size, module.schedule.largest
    if data.pixel_budget:
        smallest = min(module.schedule.training_sizes, key=area)
        together = [
            (size, batch_size_at(data.batch_size * world, size, largest)) for size in (largest, smallest)
        ]
        return [(size, math.ceil(images / world)) for size, images in dict(together).items()]
    steps = len(data.batch_sampler(world=world))
    return [(largest, min(data.batch_size, math.ceil(len(data.train) / steps / world)))]


def _fits(trainer: pl.Trainer, module: ClassificationModule, size: Size, images: int) -> bool:
    """Whether a forward and backward pass of so many images fits."""
    if module.device.type == "cpu" and hasattr(os, "fork"):
        return _survives(lambda: _tried(trainer, module, size, images))
    return _tried(trainer, module, size, images)


def _survives(attempt: Callable[[], bool]) -> bool:
    """Whether an attempt succeeds in a fork of this process.

    Where a limit leaves too little for a buffer of a library under torch, or for the stack of a thread, torch does not
    raise but crashes, and the system kills what takes too much. That then befalls the fork. It has one thread, as a
    loader process has, and keeps some memory unused for those of this process.
    """
    spare = _SPARE * (1 + torch.get_num_threads())
    try:
        with warnings.catch_warnings():  # of forks beside threads, which are not used there
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
    except OSError:  # no room for another process
        return attempt()
    if not process:
        status = _FAILED
        try:
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # last words of the libraries
            torch.set_num_threads(1)
            reserve = torch.empty(spare, dtype=torch.uint8)
            status = 0 if attempt() else _TOO_LARGE
            del reserve
        except BaseException as error:
            status = _TOO_LARGE if is_out_of_memory(error) else _FAILED
        finally:
            os._exit(status)
    # What fails in another way fails in the run too, with its own message.
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) in (0, _FAILED)


def _tried(trainer: pl.Trainer, module: ClassificationModule, size: Size, images: int) -> bool:
    training = module.net.training
    buffers = {name: buffer.clone() for name, buffer in module.net.named_buffers()}
    cuda = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            module.net.train()
            _step(trainer, module, size, images)
            return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    finally:
        module.net.train(training)
        with torch.no_grad():
            for name, buffer in module.net.named_buffers():
                buffer.copy_(buffers[name])
    if cuda:
        torch.cuda.empty_cache()
    return False


def _step(trainer: pl.Trainer, module: ClassificationModule, size: Size, images: int) -> None:
    device, region = module.device, module.schedule.largest
    parameters = [p for p in module.net.parameters() if p.requires_grad]
    image = torch.zeros(images, 3, *region, dtype=torch.uint8, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    with trainer.precision_plugin.train_step_context():
        lighting = torch.zeros(images, 3, device=device)
        x = prepare_batch(image, size, module.mean, module.std, lighting=lighting)
        target = torch.zeros(images, dtype=torch.int64, device=device)
        loss = F.cross_entropy(module.net(x), target)
    # Not backward(): it would fill .grad, and in a distributed run set off the exchange of gradients.
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    # What the optimiser allocates at its first step, beside the gradients.
    optimizer = trainer.optimizers[0]
    slots = 0 if optimizer.state else (1 if isinstance(optimizer, torch.optim.SGD) else 2)
    held = [torch.zeros_like(p) for p in parameters for _ in range(slots)]
    float(loss.detach())  # waits for a GPU, which reports late
    del gradients, held


_SMALLER = "choose a smaller batch or smaller sizes"


def _too_large(trainer: pl.Trainer, size: Size, images: int) -> str:
    batch = _datamodule(trainer).batch_size
    return f"data.batch_size={batch}: out of memory in a training step of {images} images at size {size_label(size)}"


def _advice(
    trainer: pl.Trainer, module: ClassificationModule, size: Size, images: int, begun: bool = False
) -> str:
    data, line = _datamodule(trainer), _too_large(trainer, size, images)
    if trainer.world_size > 1:  # the other processes would wait for this one's attempts
        return f"{line}: {_SMALLER}"
    most = _largest(images, lambda n: _fits(trainer, module, size, n))
    if not most and begun:  # what that step leaves behind may be all there is
        return f"{line}: {_SMALLER}"
    if not most:
        return f"{line}, and of 1 image: choose smaller sizes or a smaller network"
    share = math.prod(size) / math.prod(module.schedule.largest) if data.pixel_budget else 1.0
    choice = max(1, int(most * share))
    accumulate = math.ceil(data.batch_size * trainer.accumulate_grad_batches / choice)
    # What is left of a step that has begun may take room, so that more would fit into a new process.
    found = f"{most} fit" if begun else f"the largest that fits is {most}"
    return (
        f"{line}; {found}: choose data.batch_size={choice} or smaller sizes "
        f"(trainer.accumulate_grad_batches={accumulate} keeps the images per update)"
    )


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number below ``limit`` that fits, 0 if none does."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        try:
            fitting = fits(middle)
        except ValueError:  # batch norm cannot do with a single value
            fitting = middle == 1
        low, high = (middle, high) if fitting else (low, middle)
    return low
