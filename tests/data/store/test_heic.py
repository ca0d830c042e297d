"""HEIC pictures: read where a decoder is installed, otherwise told what to do."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from yolojax.data.formats import listing, scan
from yolojax.data.store import images

HEAD = b"\x00\x00\x00\x18ftyp%s\x00\x00\x00\x00mif1heic"


def encoded(brand=b"heic"):
    return np.frombuffer(HEAD % brand + bytes(40), np.uint8)


@pytest.fixture
def no_decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_without_a_decoder_the_reason_says_what_to_do(no_decoder, brand, tmp_path):
    verdict = listing.verify_encoded(encoded(brand))
    assert (verdict.hw, verdict.code) == (None, "unreadable_image")
    assert "Convert it to JPEG, or run: pip install" in verdict.reason
    assert "heic" in verdict.reason
    path = tmp_path / "a.heic"
    path.write_bytes(encoded(brand).tobytes())
    with pytest.raises(ValueError, match=r"a\.heic: a HEIC picture, and no decoder"):
        images.read_image(path)


def test_other_files_are_not_called_heic(no_decoder):
    for data in (b"no picture at all", b"\x00\x00\x00\x18ftypavif" + bytes(40)):
        verdict = listing.verify_encoded(np.frombuffer(data, np.uint8))
        assert verdict.reason == "not a picture that can be decoded"


def test_a_decoder_is_used_and_channels_are_in_order(monkeypatch):
    picture = Image.fromarray(np.full((12, 20, 3), (200, 100, 50), np.uint8))
    opened = SimpleNamespace(to_pillow=lambda: picture)
    decoder = SimpleNamespace(open_heif=lambda file: opened)
    monkeypatch.setitem(sys.modules, "pillow_heif", decoder)
    assert listing.verify_encoded(encoded()).hw == (12, 20)
    assert images.decode(encoded())[0, 0].tolist() == [50, 100, 200]


def test_a_scan_without_a_decoder_does_not_count_once_there_is_one(monkeypatch):
    found = []
    for decoder in (None, SimpleNamespace(__version__="1.0")):
        monkeypatch.setitem(sys.modules, "pillow_heif", decoder)
        found.append(scan.fingerprint(["a.heic"], "rules"))
    assert found[0] != found[1]


def test_a_damaged_one_is_left_out(monkeypatch):
    def fail(file):
        raise ValueError("end of file")

    decoder = SimpleNamespace(open_heif=fail)
    monkeypatch.setitem(sys.modules, "pillow_heif", decoder)
    verdict = listing.verify_encoded(encoded())
    assert (verdict.hw, verdict.reason) == (None, "a damaged HEIC picture")


def test_a_real_picture_is_upright():
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64] = (250, 10, 10)  # red on the left
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: red comes to the top
    heif.register_heif_opener()
    Image.fromarray(pixels).save(file, "HEIF", quality=95, exif=exif.tobytes())
    assert file.getvalue().count(b"irot") == 1
    image = images.decode(np.frombuffer(file.getvalue(), np.uint8))
    assert image.shape == (128, 64, 3)
    assert image[20, 32, 2] > 200 and image[110, 32, 2] < 60
