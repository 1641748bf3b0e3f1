"""Checkpoints of a training after each epoch, from which it resumes to the same result."""

import hashlib
import io
import pathlib
import pickle

import numpy as np
import torch

from skrobust.signals import write_atomically

FORMAT = 1


class TrainingCheckpoint:
    """One checkpoint file: identity of the training, and its state.

    The identity has numbers, strings and None that determine the result; a file with another one raises an error.
    """

    def __init__(self, path, identity):
        self.path, self.identity = pathlib.Path(path), identity

    def read(self, most_epochs):
        """The last saved state, or None if there is no file.

        A file that is no checkpoint, of another training, or with more than `most_epochs` epochs raises a ValueError.
        """
        if not self.path.exists():
            return None
        said = f"checkpoint={str(self.path)!r}"
        try:
            # Tensors and plain values only: the file may be untrusted, and pickles can execute code.
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            of_format, identity, state = found["format"], found["identity"], found["state"]
            n_epochs = len(state["history"])
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{said} is not a checkpoint of a training: {error}. Delete it or rename it.") from (
                error
            )
        if of_format != FORMAT:
            raise ValueError(f"{said} has format {of_format!r}, this version reads {FORMAT}. Delete it.")
        other = [name for name in self.identity | identity if self.identity.get(name) != identity.get(name)]
        if other:
            differences = ", ".join(f"{n} ({identity.get(n)!r} there, {self.identity.get(n)!r} here)" for n in other)
            raise ValueError(f"{said} belongs to another training: {differences}. Delete it, or give another file.")
        if n_epochs > most_epochs:
            raise ValueError(f"{said} holds {n_epochs} epochs, more than n_epochs={most_epochs}. Raise n_epochs.")
        return state

    def write(self, state):
        """Replace the file atomically by one with `state`."""
        stream = io.BytesIO()
        torch.save({"format": FORMAT, "identity": self.identity, "state": state}, stream)
        write_atomically(self.path, stream.getvalue())


def fingerprint(*values):
    """A hash of arrays and strings: their contents, shapes and dtypes."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, str):
            digest.update(f"{len(value)}:{value};".encode())
        else:
            digest.update(f"{value.dtype.str}{value.shape};".encode())
            digest.update(np.ascontiguousarray(value))
    return digest.hexdigest()
