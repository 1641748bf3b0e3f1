"""Threads and processes: no thread without work; forks and workers of all kinds; process settings restored."""

import os
import pathlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skrobust import PolarizingCoder, WaveletSparsifier
from skrobust.dictionaries import KSVD
from skrobust.kernels import threads
from skrobust.pursuits import orthogonal_mp
from skrobust.signals import allowed_threads, kernel_threads, one_blas_thread, resources

HERE = pathlib.Path(__file__).parent
X = np.random.default_rng(0).random((40, 64))


@pytest.fixture
def many_processors(monkeypatch):
    """As on a machine of eight processors, with helper threads of this test's own."""
    monkeypatch.setattr(resources, "environment_threads", lambda: 8)
    helpers = threads.HelperThreads()
    monkeypatch.setattr(threads, "helpers", helpers)
    return helpers


def _run(*args, timeout=400, **environment):
    """Output of a Python process that must end well, and in time."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), **environment}
    done = subprocess.run(
        [sys.executable, *map(str, args)], env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ------------------------------------------------------------------------------------------------ processes and threads


@pytest.mark.parametrize("mode", ["spawn", "loky", "threads"])
def test_all_estimators_and_pursuits_in_workers(mode):
    _run(HERE / "runtime_jobs.py", mode, NUMBA_NUM_THREADS="3")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("mode", ["fork", "loader"])
def test_all_estimators_and_pursuits_after_a_fork(mode):
    _run(HERE / "runtime_jobs.py", mode, NUMBA_NUM_THREADS="3")


def test_kernels_start_no_layer_of_numba():
    code = """
import sys, numpy as np
from skrobust import PolarizingCoder, WaveletSparsifier
for model in WaveletSparsifier("haar", image_shape=(8, 8)), PolarizingCoder(image_shape=(8, 8)):
    model.fit_transform(np.random.default_rng(0).random((2000, 64)))
import numba
try:
    print(numba.threading_layer())
except ValueError:
    print("none")
"""
    assert _run("-c", code, NUMBA_NUM_THREADS="3") == "none"


def test_the_kernels_of_the_package_are_not_parallel():
    sources = (path.read_text(encoding="utf-8") for path in (HERE.parent / "skrobust").rglob("*.py"))
    forbidden = "(parallel=True", ", parallel=True", "import prange"
    assert not any(word in source for source in sources for word in forbidden)


def test_threads_work_while_the_interpreter_ends():
    code = """
import atexit, numpy as np
from skrobust.pursuits import orthogonal_mp
X, D = np.random.default_rng(0).standard_normal((3000, 64)), np.eye(64)
orthogonal_mp(X, D, n_nonzero_coefs=2)
atexit.register(lambda: print(orthogonal_mp(X, D, n_nonzero_coefs=2).nnz))
"""
    assert _run("-c", code, NUMBA_NUM_THREADS="3") == "6000"


@pytest.mark.parametrize("setting, expected", [("1", "1"), ("3", "3")])
def test_the_environment_bounds_threads(setting, expected):
    code = "from skrobust.signals import allowed_threads as a, kernel_threads as k\nwith k(5): print(a())"
    assert _run("-c", code, NUMBA_NUM_THREADS=setting) == expected


def test_joblib_bounds_the_threads_of_its_workers():
    code = """
from joblib import Parallel, delayed, parallel_config
from skrobust.signals import allowed_threads
with parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
    print(Parallel()(delayed(allowed_threads)() for _ in range(2)))
"""
    assert _run("-c", code) == "[1, 1]"


# ------------------------------------------------------------------------------------------------- no work, no thread


@pytest.mark.parametrize("n", [1, 4])
def test_small_images_start_no_thread(many_processors, n):
    from skrobust import ConvSparseCoder, LayeredThresholding, PatchDictionaryDenoiser

    layers = {"n_components": (3, 4), "kernel_size": 3, "n_epochs": 1, "random_state": 0}
    models = [
        WaveletSparsifier("haar", image_shape=(8, 8)),
        WaveletSparsifier("haar"),
        PatchDictionaryDenoiser(6, patch_size=4, n_nonzero_coefs=2, random_state=0, image_shape=(8, 8)),
        PolarizingCoder(image_shape=(8, 8)),
        PolarizingCoder("average", image_shape=(8, 8), random_state=0),
        PolarizingCoder(np.eye(64) + 0.1),
        ConvSparseCoder(3, kernel_size=3, pursuit="omp", n_nonzero_coefs=3, n_epochs=1, image_shape=(8, 8)),
        LayeredThresholding(**layers, image_shape=(8, 8)),
        KSVD(10, n_nonzero_coefs=2, max_iter=1, random_state=0),
    ]
    models = [model.set_params(n_jobs=1).fit(X).set_params(n_jobs=None) for model in models]
    for model in models:
        model.transform(X[:n])
    assert many_processors.n_threads == 0


@pytest.mark.parametrize("n_jobs, n_started", [(None, 7), (2, 1), (1, 0)])
def test_many_images_use_all_allowed_threads(many_processors, n_jobs, n_started):
    images = np.tile(X, (2000, 1))
    WaveletSparsifier("haar", image_shape=(8, 8), n_jobs=n_jobs).fit(images).transform(images)
    assert many_processors.n_threads == n_started


def test_threads_get_a_minimum_of_work(many_processors):
    worth = threads.WORTH_A_THREAD
    assert [threads.threads_for(100, work) for work in (0, worth, 2 * worth - 1, 2 * worth, 100 * worth)] == [
        1, 1, 1, 2, 8,
    ]  # fmt: skip
    assert [threads.threads_for(n) for n in (0, 1, 3, 100)] == [1, 1, 3, 8]


def test_works_where_no_thread_can_start(monkeypatch, many_processors):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert threads.threads_for(100) == 1
    seen = []
    threads.on_threads(lambda counters: seen.append(counters), n_pieces=100)
    assert len(seen) == 1


def test_errors_of_helpers_are_raised(many_processors):
    begun = threading.Barrier(8)
    caller = threading.current_thread()

    def fail(counters):
        begun.wait(60)
        if threading.current_thread() is not caller:
            raise OverflowError("of a helper")

    with pytest.raises(OverflowError, match="of a helper"):
        threads.on_threads(fail, n_pieces=8)


def test_groups_that_wait_for_each_other_do_not_block_each_other(many_processors):
    """As many groups as there are callers, each of which needs all helpers at once."""

    def group(_):
        gate = threading.Barrier(8)
        threads.on_threads(lambda counters: gate.wait(60), n_pieces=8)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(group, range(60)))
    assert many_processors.n_threads == 7


def test_results_do_not_depend_on_the_number_of_threads(many_processors):
    images = np.tile(X, (300, 1)) + np.linspace(0, 1, 300 * len(X))[:, None]
    atoms = np.random.default_rng(1).standard_normal((100, 64))
    jobs = [
        lambda n: WaveletSparsifier("db2", image_shape=(8, 8), n_jobs=n).fit_transform(images),
        lambda n: WaveletSparsifier("db2", n_jobs=n).fit_transform(images),
        lambda n: PolarizingCoder("average", image_shape=(8, 8), random_state=0, n_jobs=n).fit_transform(images),
        lambda n: orthogonal_mp(images, atoms, n_nonzero_coefs=3, n_jobs=n).toarray(),
    ]
    for job in jobs:
        np.testing.assert_array_equal(job(1), job(5))


# --------------------------------------------------------------------------------------------- nothing is left changed


def _blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_threads_come_back_after_concurrent_work():
    with threadpool_limits(3, user_api="blas"):
        before = _blas_threads()
        coder = PolarizingCoder(np.eye(64) + 0.1, image_shape=(8, 8)).fit(X)

        def work(i):
            coder.transform(np.tile(X, (20, 1)))
            KSVD(6, n_nonzero_coefs=1, max_iter=1, random_state=i).fit(X)
            return allowed_threads()

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(work, range(24))) == {allowed_threads()}
        assert _blas_threads() == before


def test_limits_of_blas_overlap():
    with threadpool_limits(3, user_api="blas"):
        before = _blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(_blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert _blas_threads() == before


def test_transforms_do_not_change_blas_threads(monkeypatch):
    monkeypatch.setattr(resources, "threadpool_limits", lambda *_, **__: pytest.fail("BLAS of the process was limited"))
    for model in WaveletSparsifier("haar"), PolarizingCoder(np.eye(64) + 0.1):
        model.fit_transform(X)
    with kernel_threads(2):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_inherit_the_limit():
    code = """
import os, threading
from threadpoolctl import threadpool_info, threadpool_limits
import numpy
from skrobust.signals import one_blas_thread
blas = lambda: [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
threadpool_limits(3, user_api="blas")
entered, leave = threading.Event(), threading.Event()
def other():
    with one_blas_thread():
        entered.set(); leave.wait()
thread = threading.Thread(target=other); thread.start(); entered.wait()
with one_blas_thread():
    child = os.fork()
    if child == 0:
        free = set(blas()) == {3}
with one_blas_thread():
    limited = set(blas()) == {1}
if child == 0:
    os._exit(7 if free and limited and set(blas()) == {3} else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set(); thread.join()
print(set(blas()))
"""
    assert _run("-W", "ignore", "-c", code, timeout=120).split() == ["7", "{3}"]
