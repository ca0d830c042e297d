"""Times formats for decoded images on a disk: a flat file, ArrayRecord, .npy files.

python experiments/record_formats/run.py <data.yaml> [folder on the disk to measure]
"""

import functools
import mmap
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from yolojax.data import Wanted, open_yolo_folder
from yolojax.data.store.cached import Images
from yolojax.data.store.record_file import RecordLayout

IMGSZ = 640
READS = 2000
REPEATS = 5


def write_flat(folder, images):
    with open(folder / "flat", "wb") as file:
        for image in images:
            file.write(image.data)
        os.fsync(file.fileno())


def open_flat(folder, images, sums=False):
    """One file, mapped: what cache='disk' uses, which checks each sum once."""
    layout = RecordLayout(np.array([image.shape[:2] for image in images]))
    crcs = [zlib.crc32(image.data) for image in images]
    with open(folder / "flat", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    block = np.frombuffer(mapped, np.uint8)

    def read(index):
        image = layout.view(block, index)
        assert not sums or zlib.crc32(image.data) == crcs[index]
        return image

    return read


def open_positioned(folder, images):
    """The same file, read into new memory."""
    layout = RecordLayout(np.array([image.shape[:2] for image in images]))
    file = os.open(folder / "flat", os.O_RDONLY)  # closed with the process

    def read(index):
        height, width = layout.sizes[index].tolist()
        size, start = height * width * 3, int(layout.starts[index])
        data = os.pread(file, size, start)
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)

    return read


def write_arrays(folder, images):
    for index, image in enumerate(images):
        with open(folder / f"{index}.npy", "wb") as file:
            np.save(file, image)
            file.flush()
            os.fsync(file.fileno())


def open_arrays(folder, images):
    return lambda index: np.load(folder / f"{index}.npy")


def write_array_record(folder, images, options):
    path = folder / "array_record"
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    for image in images:
        writer.write(image.tobytes())
    writer.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def open_array_record(folder, images):
    shapes = [image.shape for image in images]
    reader = array_record_module.ArrayRecordReader(
        str(folder / "array_record"), "readahead_buffer_size:0"
    )

    def read(index):
        (data,) = reader.read([index])
        return np.frombuffer(data, np.uint8).reshape(shapes[index])

    return read


# One image per group, so that any of them can be read alone.
plain = functools.partial(write_array_record, options="group_size:1,uncompressed")
packed = functools.partial(write_array_record, options="group_size:1,zstd:3")
summed = functools.partial(open_flat, sums=True)
FORMATS = {
    "flat file, mapped": (write_flat, open_flat),
    "flat file, mapped, CRC-32 at every read": (write_flat, summed),
    "flat file, pread": (write_flat, open_positioned),
    "ArrayRecord, uncompressed": (plain, open_array_record),
    "ArrayRecord, zstd 3 (its default)": (packed, open_array_record),
    ".npy files": (write_arrays, open_arrays),
}


def reads_per_second(read, order):
    started = time.perf_counter()
    for index in order:
        read(index).max()  # touches every byte
    return len(order) / (time.perf_counter() - started)


def measure(write, opened, images, order, place):
    """Returns the best write MB/s and reads per second, and size per byte of pixels."""
    writes, reads = [], []
    size = sum(image.nbytes for image in images)
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            started = time.perf_counter()
            write(folder, images)
            writes.append(size / 1e6 / (time.perf_counter() - started))
            read = opened(folder, images)
            for index, image in enumerate(images):
                assert np.array_equal(read(index), image)
            reads.append(reads_per_second(read, order))
            stored = sum(path.stat().st_size for path in folder.iterdir())
    return max(writes), max(reads), stored / size


def main():
    wanted = Wanted("detect", False, None, 1.0, "head", 0)
    source = open_yolo_folder(sys.argv[1], "train", wanted, cache_dir=None, threads=2)
    records = Images(source, imgsz=IMGSZ, cache=False, threads=2)
    images = [np.array(image) for _, image in records.all_images()]
    order = np.random.default_rng(0).integers(len(images), size=READS).tolist()
    place = sys.argv[2] if len(sys.argv) > 2 else None
    print(f"{len(images)} images, {sum(i.nbytes for i in images) / 1e6:.0f} MB")
    best = max(reads_per_second(images.__getitem__, order) for _ in range(REPEATS))
    print(f"{'arrays in memory, to compare':<42}{'':>12}{best:>10.0f} reads/s")
    for name, (write, opened) in FORMATS.items():
        speed, read, share = measure(write, opened, images, order, place)
        text = f"{name:<42}{speed:>7.0f} MB/s{read:>10.0f} reads/s"
        print(f"{text}{100 * share:>6.0f} % of the size", flush=True)


if __name__ == "__main__":
    main()
