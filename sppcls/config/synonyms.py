"""What a person who knows another program types first, and the key or group that it is called here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sppcls._util.near import closest

# By key or group: words that mean it and look like no key of ours. Words are compared without case, - and _.
_SAID = {
    "trainer.max_epochs": "epochs epoch num_epochs n_epochs nepochs total_epochs",
    "optimizer.lr": "learning_rate base_lr lr0 initial_lr init_lr",
    "optimizer.weight_decay": "wd decay l2",
    "optimizer": "opt optim optimiser",
    "scheduler": "sched lr_scheduler lr_schedule schedule lr_policy",
    "scheduler.warmup_epochs": "warmup warmup_steps",
    "data.batch_size": "batch bs b train_batch_size batch_size_per_gpu",
    "data.workers": "num_workers n_workers j dataloader_num_workers",
    "data.root": "data_path data_dir data_root dataset_path dataset_dir image_dir img_dir images train_dir path input folder",
    "data.val_fraction": "val_split validation_split val_ratio val_percent test_split",
    "data": "dataset datasets",
    "sizes.sizes": "img_size image_size input_size imgsz imsize size img_sizes resolution crop_size train_crop_size",
    "sizes.val_sizes": "test_size eval_size val_size val_crop_size",
    "backbone": "model arch architecture net network encoder trunk cnn",
    "backbone.weights": "pretrained pretrain finetune init_checkpoint initial_checkpoint pretrained_weights load",
    "init_from": "init_weights pretrained_checkpoint finetune_from transfer_from warm_start",
    "freeze": "frozen freeze_backbone freeze_layers frozen_layers",
    "optimizer.layer_decay": "layerwise_lr_decay llrd layer_lr_decay",
    "pyramid": "spp pooling pool",
    "pyramid.levels": "bins pyramid_levels spp_levels pool_sizes",
    "head.dropout": "drop drop_rate drop_out",
    "augment": "augmentation augmentations aug transforms transform",
    "ckpt_path": "resume resume_from resume_from_checkpoint checkpoint checkpoint_path ckpt restore continue load_from",
    "trainer.devices": "gpus gpu num_gpus n_gpus ngpus num_devices nproc_per_node gpu_ids",
    "trainer.accelerator": "device cuda no_cuda use_gpu use_cuda cpu",
    "trainer.precision": "amp fp16 bf16 half mixed_precision autocast use_amp",
    "trainer.gradient_clip_norm": "clip grad_clip clip_grad clip_grad_norm gradient_clip_val max_grad_norm",
    "trainer.accumulate_grad_batches": "accumulate grad_accum accum_iter accum_steps gradient_accumulation_steps",
    "trainer.num_nodes": "nodes nnodes",
    "trainer.limit_train_batches": "max_steps steps steps_per_epoch",
    "trainer.val_every": "eval_every val_interval eval_interval check_val_every_n_epoch",
    "log.every_n_steps": "log_interval print_freq log_every_n_steps log_every",
    "mix.label_smoothing": "smoothing label_smooth",
    "ema.enabled": "model_ema use_ema ema_enabled",
    "swa.enabled": "use_swa stochastic_weight_averaging",
    "ema.decay": "model_ema_decay",
    "runs_dir": "output output_dir out_dir outdir out save_dir save_path log_dir logdir project work_dir results_dir",
    "name": "exp_name experiment_name exp_id exp run_id",
    "seed": "random_seed manual_seed random_state rng",
    "evaluation.protocols": "protocol tta test_protocol",
}


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


_MEANT = {_plain(word): key for key, words in _SAID.items() for word in words.split()}


def meant(word: str, keys: Mapping[str, str], groups: Sequence[str], slips: bool = True) -> str | None:
    """The key or group that a word without one is likely to mean.

    Args:
        word: the last part of what was typed: ``lr``, ``batch-size``.
        keys: full names of keys by their last part, as ``{"lr": "optimizer.lr"}``; last parts that several groups have
            are not among them.
        groups: config groups.
        slips: whether a slip of such a word counts, too.
    """
    plain = {_plain(name): full for name, full in keys.items()} | {_plain(group): group for group in groups}
    typed = _plain(word)
    if found := _MEANT.get(typed) or plain.get(typed):
        return found
    if not slips:
        return None
    slip = closest(typed, [*plain, *(known for known in _MEANT if len(known) > 4)])
    return None if slip is None else plain.get(slip) or _MEANT[slip]
