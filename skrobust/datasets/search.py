"""Search for the files of a dataset, and the error message if they are missing."""

import os
import pathlib

from .errors import DatasetNotFoundError

# The .gz comes first, because authors publish it with its checksum.
_SUFFIXES = (".gz", "", ".xz")


def data_homes(data_home=None):
    """The folders to search: only `data_home` if given, else SKROBUST_DATA and scikit-learn's data home."""
    if data_home is not None:
        return [pathlib.Path(data_home).expanduser()]
    homes = [os.environ.get("SKROBUST_DATA")]
    # Not sklearn.datasets.get_data_home, which would create the folder.
    homes.append(os.environ.get("SCIKIT_LEARN_DATA") or os.path.join("~", "scikit_learn_data"))
    return [pathlib.Path(home).expanduser() for home in homes if home]


def find_variant(folder, names, suffixes=_SUFFIXES):
    """The first of `names` in `folder`, with one of `suffixes`, or None."""
    for name in names:
        for suffix in suffixes:
            path = folder / (name + suffix)
            if path.is_file():
                return path
    return None


def find_layout(data_home, subfolders, layouts, *, title, remedy, compressed=True):
    """The first folder that holds all files of one layout: the layout's key, and the path of each of its files.

    `subfolders` are tried in each data home, in this order, before the data home itself. `layouts` has the files of
    each layout, each with its possible names; with `compressed` their .gz and .xz variants are accepted, too. If there
    is none, DatasetNotFoundError lists the folders and the files missing from incomplete ones, with the set's `title`,
    and `remedy`, the ways to get it.
    """
    homes = data_homes(data_home)
    suffixes = _SUFFIXES if compressed else ("",)
    incomplete = []
    for home in homes:
        for folder in [*(home / name for name in subfolders), home]:
            for layout, files in layouts.items():
                paths = {key: find_variant(folder, names, suffixes) for key, names in files.items()}
                missing = [files[key][0] for key, path in paths.items() if path is None]
                if not missing:
                    return layout, paths
                if len(missing) < len(paths):
                    incomplete.append(f"{folder} lacks {', '.join(missing)}")
    expected = "; or ".join(", ".join(names[0] for names in files.values()) for files in layouts.values())
    lines = [f"{title} was not found. Wanted: {expected}{' (plain, .gz or .xz)' if compressed else ''}. Looked in:"]
    for home in homes:
        searched = f", and in it {', '.join(subfolders)}" if home.is_dir() else " (no such folder)"
        lines.append(f"  {home}{searched}")
    lines += incomplete
    lines.append(f"Pass data_home= or set SKROBUST_DATA to the folder that holds the files, or get them: {remedy}")
    raise DatasetNotFoundError("\n".join(lines))
