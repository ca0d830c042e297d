"""Settings that belong together, for config files to start from."""

from ml_collections import ConfigDict

from yolojax.config.keys import KEYS


def for_shapes(config: ConfigDict) -> ConfigDict:
    """Returns the config with a recipe for the drawn set that fits two CPU cores.

    Small pictures and many optimiser steps: minutes instead of hours.
    """
    config.imgsz, config.epochs, config.batch, config.nbs = 128, 15, 8, 8
    config.scale = 0.2
    config.optimizer, config.lr0 = "adamw", 0.002
    if config.task == "detect":  # the first run of all: with room above mAP50 0.90
        config.epochs, config.warmup_epochs = 18, 1.0
    if config.task in KEYS["mosaic"].tasks:
        config.mosaic = 0.0
    else:  # whole pictures; strong policies need more of them, and longer runs
        config.imgsz, config.epochs, config.batch, config.nbs = 96, 10, 32, 32
        config.scale, config.erasing, config.auto_augment = 0.1, 0.0, "none"
        config.hsv_h, config.hsv_s, config.hsv_v = 0.0, 0.0, 0.0
        config.lr0 = 0.001
    return config
