"""Layered basis pursuit and deep pursuit against plain eager torch of the same mathematics.

    python benchmarks/bench_layered.py                    # one thread, about a minute; results/bench_layered.json
    python benchmarks/bench_layered.py --device cuda      # tensors alone; results/bench_layered_cuda.json

Two architectures: of MNIST (64, 128 and 512 atoms, kernels 6, 6, 4, strides 2, 2, 1, "valid") and of CIFAR-10 (32, 64
and 128 atoms of 4x4, stride 2, "same"), batches of 64, four iterations, float32, given steps. The reference is written
with conv2d, conv_transpose2d and relu, and gets the better of two memory layouts. Contenders come in turn, in one
process; codes are compared first. On the CPU, CPU seconds are measured, which other processes disturb little; the
minimum of all rounds counts. Memory: the increase of torch's allocated memory during a forward and backward pass over
16 signals, with 4 and with 64 iterations.
"""

import argparse
import json
import math
import pathlib
import tempfile
import time

import numpy as np
import torch
from _race import RESULTS, machine, write_json
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit
from skrobust.signals import kernel_threads

ARCHITECTURES = {
    "MNIST": {"shape": (28, 28, 1), "atoms": (64, 128, 512), "kernels": (6, 6, 4), "strides": (2, 2, 1), "pad": 0},
    "CIFAR-10": {"shape": (32, 32, 3), "atoms": (32, 64, 128), "kernels": (4, 4, 4), "strides": (2, 2, 2), "pad": 1},
}
PURSUITS = {"basis": layered_basis_pursuit, "deep": deep_pursuit}
ALPHA, BATCH, FEW_SIGNALS, FEW, MANY = 0.05, 64, 16, 4, 64


class Problem:
    """Signals and atoms of an architecture, as arrays and as tensors that require gradients."""

    def __init__(self, architecture, device):
        rng, shape = np.random.default_rng(0), architecture["shape"]
        self.strides, self.pad = architecture["strides"], architecture["pad"]
        padding = "same" if self.pad else "valid"
        self.X = rng.random((BATCH, *shape), dtype=np.float32)
        fixed, learned, self.atoms = [], [], []
        for n, kernel, stride in zip(architecture["atoms"], architecture["kernels"], self.strides, strict=True):
            atoms = rng.normal(size=(n, kernel, kernel, shape[-1]))
            atoms /= np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))
            self.atoms.append(torch.tensor(atoms, dtype=torch.float32, device=device, requires_grad=True))
            of = {"padding": padding, "stride": stride}
            fixed.append(ConvolutionalOperator(atoms.astype(np.float32), shape, **of))
            learned.append(ConvolutionalOperator(self.atoms[-1], shape, **of))
            shape = fixed[-1].code_shape
        self.fixed, self.learned = LayeredDictionary(fixed), LayeredDictionary(learned)
        self.tensor = torch.tensor(self.X, device=device)
        # Steps that are safe for both pursuits.
        self.steps = [1 / self.fixed.block_lipschitz(j) for j in range(len(fixed))]

    def ours(self, pursuit, values, layers, n_iter):
        return PURSUITS[pursuit](values, layers, ALPHA, max_iter=n_iter, step=self.steps, n_jobs=None)

    def eager(self, pursuit, values, n_iter):
        """Plain torch, images with channels first; codes of all layers."""
        filters = [atoms.permute(0, 3, 1, 2) for atoms in self.atoms]
        return (eager_basis if pursuit == "basis" else eager_deep)(self, values, filters, n_iter)

    def analyze(self, j, values, filters):
        return functional.conv2d(values, filters[j], stride=self.strides[j], padding=self.pad)

    def synthesize(self, j, codes, filters):
        return functional.conv_transpose2d(codes, filters[j], stride=self.strides[j], padding=self.pad)


def eager_basis(problem, x, filters, n_iter):
    codes = []
    for j, step in enumerate(problem.steps):
        z = ahead = torch.relu(problem.analyze(j, x, filters) - ALPHA)
        t = 1.0
        for _ in range(n_iter):
            slope = problem.analyze(j, x - problem.synthesize(j, ahead, filters), filters)
            later = (1 + math.sqrt(1 + 4 * t * t)) / 2
            before, z = z, torch.relu(ahead + step * slope - step * ALPHA)
            ahead, t = z + (t - 1) / later * (z - before), later
        codes.append(z)
        x = z
    return codes


def eager_deep(problem, x, filters, n_iter):
    n_layers, below, codes = len(filters), x, []
    for j in range(n_layers):
        below = torch.relu(problem.analyze(j, below, filters) - ALPHA)
        codes.append(below)
    images = [problem.synthesize(j, codes[j], filters) for j in range(n_layers)]
    old_codes, old_images, t = codes, images, 1.0
    for sweep in range(n_iter):
        later = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momentum, t = (t - 1) / later, later
        new_codes, new_images = [], []
        for j, step in enumerate(problem.steps):
            ahead = codes[j] + momentum * (codes[j] - old_codes[j])
            image = images[j] + momentum * (images[j] - old_images[j])
            slope = problem.analyze(j, (new_codes[j - 1] if j else x) - image, filters)
            if j + 1 < n_layers:
                slope = slope - (ahead - images[j + 1])
            new_codes.append(torch.relu(ahead + step * slope - step * ALPHA))
            if sweep + 1 < n_iter:
                new_images.append(problem.synthesize(j, new_codes[j], filters))
        old_codes, old_images, codes, images = codes, images, new_codes, new_images
    return codes


def contenders(problem, pursuit, device):
    """Name to function; all give the codes of the last layer."""

    def backward(codes):
        codes[-1].sum().backward()
        return codes

    def ours_backward():
        return backward(problem.ours(pursuit, problem.tensor.clone().requires_grad_(), problem.learned, FEW))

    def in_layout(layout, both):
        values = problem.tensor.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        if both:
            return backward(problem.eager(pursuit, values.clone().requires_grad_(), FEW))
        with torch.no_grad():
            return problem.eager(pursuit, values, FEW)

    def tensors():
        with torch.no_grad():
            return problem.ours(pursuit, problem.tensor, problem.learned, FEW)

    calls = {"tensors": tensors, "tensors, backward": ours_backward}
    if device == "cpu":
        calls["arrays"] = lambda: problem.ours(pursuit, problem.X, problem.fixed, FEW)
    for name, layout in (("channels first", torch.contiguous_format), ("channels last", torch.channels_last)):
        calls[f"eager, {name}"] = lambda layout=layout: in_layout(layout, False)
        calls[f"eager, {name}, backward"] = lambda layout=layout: in_layout(layout, True)
    return calls


def milliseconds(functions, rounds, device):
    """Least time an image of each contender, in turn."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    least = dict.fromkeys(functions, math.inf)
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            begin = clock()
            function()
            if device != "cpu":
                torch.cuda.synchronize()
            least[name] = min(least[name], 1000 * (clock() - begin) / BATCH)
    return least


def peak_bytes(make, device):
    """Increase of torch's allocated memory during a forward and a backward pass."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        make()[-1].sum().backward()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        make()[-1].sum().backward()
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf8"))["traceEvents"]
    events = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    return int(np.cumsum([event["args"]["Bytes"] for event in events]).max())


def compared(problem, pursuit):
    """Largest difference of codes between tensors, arrays and eager torch."""
    with torch.no_grad():
        eager = problem.eager(pursuit, problem.tensor.permute(0, 3, 1, 2), FEW)
        ours = problem.ours(pursuit, problem.tensor, problem.learned, FEW)
    arrays = problem.ours(pursuit, problem.X, problem.fixed, FEW)
    pairs = [(a, o.cpu().numpy(), e.movedim(1, -1).cpu().numpy()) for a, o, e in zip(arrays, ours, eager, strict=True)]
    return max(float(max(abs(a - e).max(), abs(o - e).max())) for a, o, e in pairs)


def measured(architecture, pursuit, rounds, device):
    problem = Problem(architecture, device)
    times = milliseconds(contenders(problem, pursuit, device), rounds, device)
    eager = {
        both: min(
            time for name, time in times.items() if name.startswith("eager") and name.endswith("backward") == both
        )
        for both in (False, True)
    }
    ratios = {
        "tensors": eager[False] / times["tensors"],
        "tensors, backward": eager[True] / times["tensors, backward"],
    }
    if "arrays" in times:
        ratios["arrays"] = eager[False] / times["arrays"]
    memory = {}
    few = problem.tensor[:FEW_SIGNALS]
    for n_iter in (FEW, MANY):
        memory[f"tensors, {n_iter} iterations"] = peak_bytes(
            lambda n=n_iter: problem.ours(pursuit, few.clone().requires_grad_(), problem.learned, n), device
        )
        memory[f"eager, {n_iter} iterations"] = peak_bytes(
            lambda n=n_iter: problem.eager(pursuit, few.permute(0, 3, 1, 2).clone().requires_grad_(), n), device
        )
    return {
        "largest_difference_of_codes": compared(problem, pursuit),
        "milliseconds_an_image": times,
        "times_as_fast_as_eager": ratios,
        "peak_bytes_an_image": {name: peak / FEW_SIGNALS for name, peak in memory.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=None, help="one case, such as 'MNIST, deep'; the others stay in the file")
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # everyone in full float32

    stem = "bench_layered" if args.device == "cpu" else "bench_layered_cuda"
    path = pathlib.Path(args.output or RESULTS / f"{stem}.json")
    content = {
        "machine": machine("torch", "numba"),
        "device": "cpu" if args.device == "cpu" else torch.cuda.get_device_name(),
        "threads": args.threads,
        "clock": "seconds of the processor" if args.device == "cpu" and args.threads == 1 else "wall",
        "dtype": "float32",
        "batch": BATCH,
        "iterations": FEW,
        "rounds": args.rounds,
        "results": {},
    }
    for name, architecture in ARCHITECTURES.items():
        for pursuit in PURSUITS:
            case = f"{name}, {pursuit}"
            if args.only not in (None, case):
                continue
            with kernel_threads(args.threads):
                figures = measured(architecture, pursuit, args.rounds, args.device)
            if path.exists():
                content["results"] = json.loads(path.read_text(encoding="utf8"))["results"]
            content["results"][case] = figures
            write_json(path, content)
            print(name, pursuit, {k: round(v, 3) for k, v in figures["milliseconds_an_image"].items()}, flush=True)
            print("   ", {k: round(v, 2) for k, v in figures["times_as_fast_as_eager"].items()}, flush=True)


if __name__ == "__main__":
    main()
