"""Loaders that make batches ahead of time, with threads or worker processes."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags
from grain.multiprocessing import SharedMemoryArray

from yolojax.data.batches.collate import HostBatch
from yolojax.data.store.host_cores import single_opencv_thread


class Loader:
    """An iterator over batches that works ahead; close it, or use it in `with`."""

    def __init__(self, batches: Any, base: Any, *, workers: int, threads: int) -> None:
        """Wraps an iterator.

        Args:
            batches: TrainBatches or EvalBatches.
            base: Grain's iterator over them.
            workers: processes that make them; 0: threads of this one do.
            threads: of this process, or of each worker.
        """
        self.batches = batches
        self.workers, self.threads = workers, threads
        self._base = [base]  # emptied on closing
        # Also at exit: Grain's own clean-up comes too late then, and leaks memory.
        # Samples are rendered side by side, in threads of this process as well.
        calm = contextlib.ExitStack()
        calm.enter_context(single_opencv_thread())
        self._finalizer = weakref.finalize(
            self, _close, self._base, calm, shared_memory=workers > 0
        )

    def __iter__(self) -> Iterator[HostBatch]:
        """Returns itself."""
        return self

    def __next__(self) -> HostBatch:
        """Returns the next batch."""
        if not self._base:
            raise ValueError("the loader is closed; make another one")
        return _owned(next(self._base[0]))

    def __enter__(self) -> "Loader":
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the loader."""
        self.close()

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass over the images."""
        return self.batches.batches_per_epoch

    def indices(self, step: int) -> list[int]:
        """Returns the images of a step, without padding; touches no pixels."""
        return self.batches.indices(step)

    def close(self) -> None:
        """Stops threads and worker processes and frees shared memory."""
        self._finalizer()


def _owned(value: Any) -> Any:
    """Returns a batch, or a part of it, whose arrays outlive the loader."""
    if isinstance(value, dict):
        return {key: _owned(part) for key, part in value.items()}
    # Arrays from worker processes lie in shared memory, which must not outlive the
    # loader; others are passed on as they are.
    return value if type(value) is np.ndarray else np.array(value, subok=False)


def _close(base: list[Any], calm: contextlib.ExitStack, *, shared_memory: bool) -> None:
    with calm:
        base.pop().close()
    if shared_memory:
        # An exhausted iterator keeps the last arrays of its workers in a reference
        # cycle; uncollected until exit, they would be reported as leaked.
        gc.collect()
        # Grain frees them in a thread of its own, which exit could overtake.
        deletions = getattr(SharedMemoryArray, "_del_thread_pool", None)
        if deletions is not None:
            deletions.apply(int)


def prefetched(
    batches: Any, *, start_step: int, workers: int, num_threads: int, prefetch: int
) -> Loader:
    """Returns an iterator over `batches[start_step:]` that works ahead.

    Args:
        batches: TrainBatches or EvalBatches.
        start_step: first step.
        workers: processes; 0 uses threads of this process.
        num_threads: threads of this process, or of each worker.
        prefetch: batches kept ready, per worker if there are any.
    """
    dataset = grain.MapDataset.source(batches)[start_step:]
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=max(prefetch, num_threads)
    )
    iterable = dataset.to_iter_dataset(options)
    if workers > 0:
        _parse_flags()
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(prefetch, 1)
            ),
            worker_init_fn=_init_worker,
        )
    return Loader(batches, iter(iterable), workers=workers, threads=num_threads)


def _init_worker(worker: int, workers: int) -> None:
    """Leaves Ctrl-C to the main process, and ends when that one has died."""
    del worker, workers
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _parse_flags() -> None:
    """Grain's workers read absl flags, which exist unparsed outside absl.app.run."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
