"""Checkpoints of a training after each epoch, from which it resumes to the same result."""

import io
import pathlib
import pickle

import torch

from skrobust.signals import write_atomically

FORMAT = 2


class TrainingCheckpoint:
    """One checkpoint file: identity of the training, and its state.

    The identity holds the numbers, strings and None that determine the result. A file with another identity raises an
    error.
    """

    def __init__(self, path, identity):
        self.path, self.identity = pathlib.Path(path), identity

    def read(self, max_epochs):
        """The last saved state, or None if there is no file.

        A file that is not a checkpoint, of another training, or with more than `max_epochs` epochs raises a ValueError.
        """
        if not self.path.exists():
            return None
        name = f"checkpoint={str(self.path)!r}"
        try:
            # Tensors and plain values only: the file may be untrusted, and pickles can execute code.
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            file_format, identity, state = content["format"], content["identity"], content["state"]
            n_epochs = len(state["history"])
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{name} is not a checkpoint of a training: {error}. Delete it or rename it.") from error
        if file_format != FORMAT:
            raise ValueError(f"{name} has format {file_format!r}, this version reads {FORMAT}. Delete it.")
        changed = [key for key in self.identity | identity if self.identity.get(key) != identity.get(key)]
        if changed:
            pairs = [(key, identity.get(key), self.identity.get(key)) for key in changed]
            differences = ", ".join(f"{key} ({stored!r} there, {own!r} here)" for key, stored, own in pairs)
            raise ValueError(f"{name} belongs to another training: {differences}. Delete it, or give another file.")
        if n_epochs > max_epochs:
            raise ValueError(f"{name} holds {n_epochs} epochs, more than n_epochs={max_epochs}. Raise n_epochs.")
        return state

    def write(self, state):
        """Replace the file atomically by one with `state`."""
        stream = io.BytesIO()
        torch.save({"format": FORMAT, "identity": self.identity, "state": state}, stream)
        write_atomically(self.path, stream.getvalue())
