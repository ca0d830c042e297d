"""Batches of small data sets, and how they are compared."""

import dataclasses

import numpy as np
from recipes import USUAL

from yolojax.data.store import cached

BUCKETS = (4, 8, 16, 32, 64)


MIXED = dataclasses.replace(USUAL, mosaic=0.7, mixup=0.3, cutmix=0.3)


def held(source, *, cache=False, imgsz=64):
    return cached.Images(source, imgsz=imgsz, cache=cache, threads=2)


def everything(loader):
    with loader:
        return [{k: np.array(v) for k, v in batch.items()} for batch in loader]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
