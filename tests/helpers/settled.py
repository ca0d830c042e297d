"""What settings come to, or why they are refused."""

import pytest

from yolojax import config


def changed(**settings):
    values = config.default("detect")
    values.update(settings)
    return config.check(values)


def refusal(**settings):
    with pytest.raises(ValueError) as caught:
        changed(**settings)
    return str(caught.value)
