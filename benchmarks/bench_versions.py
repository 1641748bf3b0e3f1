"""Speed of this version beside an earlier one: both answer in turn, in CPU seconds on one thread.

    python benchmarks/bench_versions.py --before REVISION

The earlier revision is checked out into a temporary folder. One process for each version stays warm, and the two take
samples alternately. The least of the samples counts: CPU time of one thread that other work only ever lengthens.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from _race import RESULTS, machine, write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 0
LEAST_SECONDS = 0.1  # Each sample repeats its call until it lasts so long.


def tasks():
    """Calls of the public estimators, each on small images made here, ready to be timed."""
    import torch
    from scipy.ndimage import gaussian_filter
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    import skrobust
    from skrobust.attacks import APGD, PGD
    from skrobust.pursuits import orthogonal_mp

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    grey, colour = rng.random((200, 28, 28)), rng.random((64, 32, 32, 3))
    grey, colour = gaussian_filter(grey, (0, 2, 2)), gaussian_filter(colour, (0, 2, 2, 0))
    edges = colour - gaussian_filter(colour, (0, 4, 4, 0))
    rows, y = grey.reshape(len(grey), -1), np.arange(len(grey)) % 5

    wavelet = skrobust.WaveletSparsifier("db5", n_nonzero_coefs=0.05, level=1, image_shape=(28, 28)).fit(rows)
    deep_wavelet = skrobust.WaveletSparsifier("db5", n_nonzero_coefs=0.05, level=3).fit(colour)
    polar = skrobust.PolarizingCoder(image_shape=(28, 28)).fit(rows)
    patch = skrobust.PatchDictionaryDenoiser(32, patch_size=6, image_shape=(28, 28), random_state=SEED).fit(rows[:40])
    conv = skrobust.ConvSparseCoder(16, kernel_size=6, n_epochs=2, alpha=0.02, random_state=SEED).fit(edges[:16])
    greedy = skrobust.ConvSparseCoder(16, kernel_size=6, n_epochs=1, pursuit="omp", n_nonzero_coefs=20, random_state=0)
    greedy.fit(edges[:8])
    layered = skrobust.LayeredBasisPursuit((8, 16), kernel_size=(5, 5), random_state=SEED, n_epochs=1).fit(edges[:16])
    deep = skrobust.DeepPursuit((8, 16), kernel_size=(5, 5), random_state=SEED, n_epochs=1, max_iter=20)
    deep.fit(edges[:16])
    atoms, signals = rng.standard_normal((128, 64)), rng.standard_normal((500, 64))
    defended = make_pipeline(wavelet, LogisticRegression(max_iter=1000)).fit(rows, y)
    plain = LogisticRegression(max_iter=1000).fit(rows, y)
    module, x = skrobust.as_module(conv), torch.tensor(edges[:4], dtype=torch.float32)

    def backward():
        image = x.clone().requires_grad_(True)
        module(image).sum().backward()

    learn = skrobust.ConvSparseCoder(8, kernel_size=5, n_epochs=2, alpha=0.02, random_state=SEED)
    return {
        "WaveletSparsifier, level 1, 200 x 28 x 28": lambda: wavelet.transform(rows),
        "WaveletSparsifier, level 3, 64 x 32 x 32 x 3": lambda: deep_wavelet.transform(edges),
        "WaveletSparsifier, one image": lambda: wavelet.transform(rows[:1]),
        "PolarizingCoder, 200 x 28 x 28": lambda: polar.transform(rows),
        "PatchDictionaryDenoiser, 8 x 28 x 28": lambda: patch.transform(rows[:8]),
        "orthogonal_mp, 500 signals, 8 of 128 atoms": lambda: orthogonal_mp(signals, atoms, n_nonzero_coefs=8),
        "ConvSparseCoder.fit, 16 x 32 x 32 x 3": lambda: learn.fit(edges[:16]),
        "ConvSparseCoder.transform, 16 x 32 x 32 x 3": lambda: conv.transform(edges[:16]),
        "ConvSparseCoder, OMP, 8 x 32 x 32 x 3": lambda: greedy.transform(edges[:8]),
        "ConvSparseCoder, module, forward and backward": backward,
        "LayeredBasisPursuit.transform, 16 images": lambda: layered.transform(edges[:16]),
        "DeepPursuit.transform, 8 images": lambda: deep.transform(edges[:8]),
        "PGD, logistic regression": lambda: PGD(0.1, random_state=0).perturb(plain, rows, y),
        "APGD, wavelet and logistic regression": lambda: APGD(0.1, random_state=0).perturb(defended, rows[:50], y[:50]),
    }


def serve():
    """Answer lines of standard input, a task's number, by its CPU seconds; the first answer is the tasks' names."""
    todo = tasks()
    print(*todo, sep="\t", flush=True)
    functions, repeats = list(todo.values()), {}
    for task in map(int, sys.stdin):
        if task not in repeats:
            functions[task]()
            repeats[task] = max(1, round(LEAST_SECONDS / _timed(functions[task], 1)))
        print(_timed(functions[task], repeats[task]), flush=True)


def _timed(function, repeats):
    started = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - started) / repeats


class Version:
    """A warm process that runs the tasks with the package of one folder."""

    def __init__(self, folder):
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--serve"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, cwd=folder, stdin=pipe, stdout=pipe, text=True)
        self.names = self.process.stdout.readline().rstrip("\n").split("\t")

    def seconds(self, task):
        """CPU seconds of one call."""
        self.process.stdin.write(f"{task}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        """End the process."""
        self.process.communicate()


def compare(before, after, seconds):
    """Least CPU seconds of each task in both versions, sampled alternately for about `seconds` a task."""
    results = {}
    for task, name in enumerate(after.names):
        samples = {"before": [], "after": []}
        ends = time.monotonic() + seconds
        while len(samples["after"]) < 7 or time.monotonic() < ends:
            for key, version in (("before", before), ("after", after)):
                samples[key].append(version.seconds(task))
        least = {key: min(values) for key, values in samples.items()}
        results[name] = least | {"ratio": least["after"] / least["before"], "samples": len(samples["after"])}
        print(f"| {name} | {least['before']:.4f} | {least['after']:.4f} | {results[name]['ratio']:.3f} |", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", help="the earlier revision, as git names it")
    parser.add_argument("--seconds", type=float, default=10.0, help="wall-clock seconds for each task")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_versions.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    if args.before is None:
        parser.error("--before names the revision to compare with")
    revision = subprocess.check_output(["git", "rev-parse", "--short", args.before], cwd=ROOT, text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.check_output(["git", "archive", revision, "skrobust"], cwd=ROOT)
        subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
        versions = Version(folder), Version(ROOT)
        print("| task | before, CPU s | after, CPU s | after / before |\n| --- | --- | --- | --- |")
        results = compare(*versions, args.seconds)
        for version in versions:
            version.close()
    content = {"what": __doc__.splitlines()[0], "before": revision, "machine": machine("numba", "torch", "numpy")}
    write_json(args.output, content | {"seed": SEED, "tasks": results})


if __name__ == "__main__":
    main()
