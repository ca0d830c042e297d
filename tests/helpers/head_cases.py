"""Networks with every head, and how their layers are compared."""

import functools

import numpy as np

from yolojax.models import heads

HEADS = {  # with the class counts of the published models
    "detect": functools.partial(heads.Detect, 80),
    "segment": functools.partial(heads.Segment, 80),
    "pose": functools.partial(heads.Pose, 1, (17, 3)),
    "obb": functools.partial(heads.OBB, 15),
    "classify": functools.partial(heads.Classify, 1000, 0.0),
}


def close(got, want, tolerance):
    limit = tolerance * max(1.0, np.abs(want).max())
    assert got.shape == want.shape
    assert np.abs(np.asarray(got) - want).max() <= limit


def check_layers(kept, values):
    names = sorted(name for name in values if name.endswith("_sample"))
    assert len(kept) == len(names) > 0
    for index, name in enumerate(names):  # the first that disagrees is the wrong one
        x = kept[f"layer_{index}"][0].transpose(0, 3, 1, 2)
        assert x.shape == tuple(values[f"layer{index:02d}_shape"])
        sample = x.reshape(-1)[:: -(-x.size // 256)]
        close(sample, values[name][: sample.size], 2e-5)
