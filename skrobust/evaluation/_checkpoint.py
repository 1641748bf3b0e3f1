"""What a stopped report has done so far, so that the next call goes on from there."""

import io
import json
import pathlib
import zipfile
from dataclasses import replace

import numpy as np

from skrobust.signals import write_atomically

from ._fingerprint import fingerprint
from ._trials import Trial, settings_of

_ARRAYS = ("eps", "right", "predicted", "seconds", "witnesses")


class Checkpoint:
    """Finished trials in one ``.npz`` file, written anew, whole, after each.

    Parameters
    ----------
    path : str, path-like or None
        None: nothing is kept.
    task : object
        All that a trial depends on besides the attack; its contents are hashed, parameters and fitted arrays of models
        included. A file of another task is refused, not mixed in.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of other models, images or eps.
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
        """The trial of `attack` on `model`, or None if it is still to be made."""
        trial = self._trials.get(_key(model, attack)) if self.path is not None else None
        # The same settings, but as they were given: JSON knows no tuples.
        return None if trial is None else replace(trial, settings=settings_of(attack))

    def save(self, model, attack, trial):
        """Keep `trial`."""
        if self.path is None:
            return
        self._trials[_key(model, attack)] = trial
        stream = io.BytesIO()
        arrays = {"task": np.array(self._task)}
        for key, kept in self._trials.items():
            arrays[f"{key}/settings"] = np.array(json.dumps([kept.model, kept.settings], default=repr))
            arrays |= {f"{key}/{name}": _plain(getattr(kept, name)) for name in _ARRAYS}
        np.savez_compressed(stream, **arrays)
        write_atomically(self.path, stream.getvalue())

    def _read(self):
        try:
            # No pickles: a checkpoint is data, whoever wrote it.
            with np.load(self.path, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            task = str(stored.pop("task"))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"checkpoint={str(self.path)!r} is no checkpoint of a report: {error}") from error
        if task != self._task:
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to other models, images or eps. "
                "Delete it, or name another file."
            )
        for key in {name.split("/")[0] for name in stored}:
            model, settings = json.loads(str(stored[f"{key}/settings"]))
            arrays = {name: stored[f"{key}/{name}"] for name in _ARRAYS}
            self._trials[key] = Trial(model=model, settings=settings, **arrays)


def _key(model, attack):
    settings = settings_of(attack)
    return fingerprint([model, type(attack).__name__, settings])


def _plain(array):
    """Labels kept as objects are strings; only arrays that need no pickle are written."""
    return array.astype(str) if array.dtype == object else array
