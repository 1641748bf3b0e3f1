"""Fair timing: contenders in turn, in one process, after a warm-up; samples under foreign load are discarded."""

import json
import os
import pathlib
import platform
import statistics
import tempfile
import time
from importlib.metadata import version

RESULTS = pathlib.Path(__file__).parent / "results"


def _busy_seconds():
    """CPU seconds that all processes of the machine have used; None where the system does not provide it."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(field) for field in file.readline().split()[1:8]]
    except OSError:
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _timed(function, repeats):
    busy, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
    for _ in range(repeats):
        function()
    seconds = time.perf_counter() - start
    if busy is None:
        return seconds / repeats, 0.0
    foreign = (_busy_seconds() - busy) - (time.process_time() - own)
    return seconds / repeats, foreign / seconds


def race(contenders, *, rounds=7, least_seconds=0.2, most_foreign=0.15, patience=20):
    """Time each contender in every round.

    Parameters
    ----------
    contenders : dict of str to callable
    rounds : int
    least_seconds : float
        Each sample repeats its contender for at least this time.
    most_foreign : float
        Share of one core that other processes may use during a sample; with more, the sample is repeated.
    patience : int
        Attempts per sample; the last one counts in any case.

    Returns
    -------
    dict of str to list of float
        Seconds a call.
    """
    repeats = {}
    for name, function in contenders.items():
        function()
        repeats[name] = max(1, round(least_seconds / _timed(function, 1)[0]))
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, function in contenders.items():
            for _ in range(patience):
                sample, foreign = _timed(function, repeats[name])
                if foreign <= most_foreign:
                    break
            seconds[name].append(sample)
    return seconds


def summary(seconds):
    """Minimum, median and maximum of each contender."""
    return {
        name: {"min": min(s), "median": statistics.median(s), "max": max(s), "rounds": len(s)}
        for name, s in seconds.items()
    }


def machine(*packages):
    """What the figures were taken on."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf8") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write_json(path, content):
    """Write a result file whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
