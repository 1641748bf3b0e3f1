"""Random numbers of each image, independent of its batch."""

from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state


class ImageStreams:
    """Independent random streams, one for each (image, restart, block).

    Counter-based generators: image, restart and block are parts of the counter, so a stream depends neither on the
    batch size nor on which images are already done.
    """

    def __init__(self, random_state):
        self._key = check_random_state(random_state).randint(0, 2**31 - 1, size=2, dtype=np.int64).astype(np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=self._key))
        self._start = self._generator.bit_generator.state

    def generator(self, image, restart=0, block=0):
        """A `numpy.random.Generator` at the start of the stream of one image, valid until the next call."""
        # One generator is moved from stream to stream: a new one would take five times as long.
        self._start["state"]["counter"] = np.array([0, block, restart, image], dtype=np.uint64)
        self._generator.bit_generator.state = self._start
        return self._generator

    def draw(self, images, sample, *, restart=0, block=0):
        """Stack ``sample(generator)`` over `images`; `sample` takes a `numpy.random.Generator` and returns an array."""
        return np.stack([sample(self.generator(int(image), restart, block)) for image in images])

    @contextmanager
    def torch_seeded(self, device):
        """Seed torch's own generator, from which randomised models draw, and restore it afterwards."""
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(self._key[0]))
            yield
