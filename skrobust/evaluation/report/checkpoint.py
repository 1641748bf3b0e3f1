"""Checkpoints of a report, from which an interrupted report resumes."""

import io
import json
import pathlib
import zipfile
from dataclasses import replace

import numpy as np

from skrobust.signals import write_atomically
from skrobust.signals.fingerprint import fingerprint

from .trials import Trial, settings_of

_ARRAYS = ("eps", "right", "predicted", "seconds", "witnesses")


class Checkpoint:
    """Finished trials in one ``.npz`` file, rewritten atomically after each; without a path nothing is stored.

    `task` is everything a trial depends on besides the attack. Its contents are hashed, including parameters and fitted
    arrays of models. A file of another task, or one that is not a checkpoint, raises a ValueError.
    """

    def __init__(self, path, task):
        self.path = None if path is None else pathlib.Path(path)
        self._trials = {}
        if self.path is None:
            return
        self._task = fingerprint(task)
        if self.path.exists():
            self._read()

    def load(self, model, attack):
        """The finished trial of `attack` on `model`, or None."""
        trial = self._trials.get(_key(model, attack)) if self.path is not None else None
        # The original settings, because JSON has no tuples.
        return None if trial is None else replace(trial, settings=settings_of(attack))

    def save(self, model, attack, trial):
        """Store `trial`, and rewrite the file."""
        if self.path is None:
            return
        self._trials[_key(model, attack)] = trial
        stream = io.BytesIO()
        arrays = {"task": np.array(self._task)}
        for key, stored in self._trials.items():
            arrays[f"{key}/settings"] = np.array(json.dumps([stored.model, stored.settings], default=repr))
            arrays |= {f"{key}/{name}": _plain(getattr(stored, name)) for name in _ARRAYS}
        np.savez_compressed(stream, **arrays)
        write_atomically(self.path, stream.getvalue())

    def _read(self):
        try:
            # No pickles: a checkpoint may be untrusted.
            with np.load(self.path, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            task = str(stored.pop("task"))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"checkpoint={str(self.path)!r} is not a checkpoint of a report: {error}") from error
        if task != self._task:
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to other models, images or eps. "
                "Delete it, or give another file."
            )
        for key in {name.split("/")[0] for name in stored}:
            model, settings = json.loads(str(stored[f"{key}/settings"]))
            arrays = {name: stored[f"{key}/{name}"] for name in _ARRAYS}
            self._trials[key] = Trial(model=model, settings=settings, **arrays)


def _key(model, attack):
    settings = settings_of(attack)
    return fingerprint([model, type(attack).__name__, settings])


def _plain(array):
    """Object labels as strings, because only arrays without pickles are written."""
    return array.astype(str) if array.dtype == object else array
