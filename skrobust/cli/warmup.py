"""``skrobust warmup``: compile the kernels before they are needed."""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from .first_calls import FAMILIES, compile_family

NAME = "warmup"
SUMMARY = "compile the kernels once, before they are needed"
DESCRIPTION = """\
Compiles the kernels of all estimators and pursuits, in parallel processes, by calls on small random images. Without
this, each kernel is compiled when it is first called, which takes seconds. Compiled kernels stay in the user's cache
folder, for this processor and these versions of skrobust, Python and numba."""
EPILOG = """\
examples:
  skrobust warmup
  skrobust warmup --only wavelet polar --dtype float32 float64

The environment variable SKROBUST_CACHE_DIR chooses another folder."""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        nargs="+",
        default=["float32"],
        help="precisions to compile for (default: float32)",
    )
    parser.add_argument(
        "--only", metavar="FAMILY", choices=FAMILIES, nargs="+", help=f"compile some of: {', '.join(FAMILIES)}"
    )
    parser.add_argument("--jobs", metavar="N", type=_count, help="processes (default: one per processor)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments):
    """Compile the kernels.

    Returns
    -------
    int
        0.
    """
    from tqdm import tqdm

    from skrobust.kernels.cache import cache_folders

    start = time.perf_counter()
    chosen = [name for name in FAMILIES if name in (arguments.only or FAMILIES)]
    tasks = [(name, dtype) for name in chosen for dtype in dict.fromkeys(arguments.dtype)]
    n_jobs = min(len(tasks), arguments.jobs or os.cpu_count())
    # Spawned, because a forked process inherits locks.
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(n_jobs, mp_context=spawn) as pool,
        tqdm(total=len(tasks), desc="compiling", unit="family", disable=arguments.quiet) as bar,
    ):
        try:
            for done in as_completed([pool.submit(compile_family, *task) for task in tasks]):
                done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.perf_counter() - start
    print(f"Compiled the kernels of {', '.join(chosen)} in {seconds:.0f} s. Cache: {cache_folders()[0]}")
    return 0


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)
