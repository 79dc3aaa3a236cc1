"""Names that a user may choose from. Free of torch, so that help and mistyped words are answered at once."""

from __future__ import annotations

PAPER_BACKBONES = ("zf5", "convnet_star5", "overfeat5", "overfeat7")
TORCHVISION_TRUNKS = (
    "alexnet",
    "vgg11",
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
)
BACKBONES = (*PAPER_BACKBONES, *TORCHVISION_TRUNKS, "timm")
NORMS = ("lrn_within", "lrn_across", "batch", "none")
INITS = ("paper", "modern")
POOL_MODES = ("max", "avg", "sum")
BIN_RULES = ("adaptive", "sliding", "padded")
HEADS = ("fc", "linear", "conv")

DOWNLOADS = ("imagenette", "flowers102", "caltech101", "food101", "cifar10", "pets")
SOURCES = ("shapes", "folder", "imagenet", *DOWNLOADS)
SCHEDULES = ("single", "alternate", "random_epoch", "random_batch", "progressive")
CROPS = ("five", "anywhere", "center", "resized")
