"""`CSCLayer` against plain torch, and SDNet-18 against ResNet-18: time of forward and backward pass, and memory.

    python benchmarks/bench_nn.py                  # writes results/bench_nn.json and docs/results/csc_layer_speed.md
    python benchmarks/bench_nn.py --device cuda    # writes results/bench_nn_cuda.json

The same two ISTA steps from zero, at the shapes of SDNet's layers on CIFAR: by `CSCLayer`, whose time includes
normalising atoms and updating the step size; by a plain loop, with a given step size; and by a loop that leaves out the
synthesis of zero codes. The floor is the convolutions of these steps alone, three forward and six backward. Codes and
gradients are compared first. Contenders run in turn, in both memory layouts, and the faster layout counts; the minimum
of all rounds. On one thread, CPU seconds are measured. Memory: increase of torch's allocated memory in one pass.
"""

import argparse
import json
import math
import pathlib
import time

import torch
from _race import RESULTS, machine, write_json
from bench_layered import peak_bytes
from torch.nn import functional

from skrobust.nn import CSCLayer, make_network

SHAPES = [(3, 64, 32), (64, 64, 32), (128, 128, 16), (256, 256, 8), (512, 512, 4)]
"""Channels, atoms and pixels per side."""
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "results" / "csc_layer_speed.md"
ALPHA = 0.1


def ista(x, stored, step, n_iter=2, skip_zeros=False):
    """Codes by plain torch."""
    weight = stored / stored.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    codes = x.new_zeros(len(x), len(weight), *x.shape[2:]).contiguous(memory_format=_layout(x))
    for i in range(n_iter):
        residual = x if skip_zeros and i == 0 else x - functional.conv_transpose2d(codes, weight, padding=1)
        codes = torch.relu(codes + step * functional.conv2d(residual, weight, padding=1) - step * ALPHA)
    return codes


def _layout(x):
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def convolutions(x, codes, weight, needs_input_gradient):
    """The convolutions of two steps and of their backward passes, and nothing else."""
    size = [1, 1], [1, 1], [1, 1]
    image = functional.conv2d(x, weight, padding=1)
    functional.conv_transpose2d(codes, weight, padding=1)
    functional.conv2d(x, weight, padding=1)
    for transposed, gradient, values, mask in (
        (False, image, x, [True, True, False]),
        (True, x, codes, [True, True, False]),
        (False, image, x, [needs_input_gradient, True, False]),
    ):
        torch.ops.aten.convolution_backward(gradient, values, weight, None, *size, transposed, [0, 0], 1, mask)


def least_milliseconds(calls, rounds, device, batch):
    """Least time an image of each contender, in turn."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    least = dict.fromkeys(calls, math.inf)
    for _ in range(3):
        for call in calls.values():
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            _wait(device)
            begin = clock()
            call()
            _wait(device)
            least[name] = min(least[name], 1000 * (clock() - begin) / batch)
    return least


def _wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def layer_figures(shape, batch, rounds, device):
    channels, n_atoms, side = shape
    torch.manual_seed(0)
    layer = CSCLayer(channels, n_atoms, 3, padding=1, alpha=ALPHA).to(device).train()
    images = torch.randn(batch, channels, side, side, device=device)
    slopes = torch.randn(batch, n_atoms, side, side, device=device)
    layer(images)
    stored, step = layer.parametrizations.weight.original, float(0.9 / layer.squared_norm)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-6)  # weights change, so the layer updates its step size
    is_inner = channels > 3  # images need no gradient in training

    def loop(x, skip_zeros):
        return ista(x, stored, step, skip_zeros=skip_zeros)

    contenders = {"CSCLayer": layer, "plain loop": lambda x: loop(x, False), "careful loop": lambda x: loop(x, True)}

    def gradients(function):
        x = images.clone().requires_grad_()
        codes = function(x)
        return [codes, *torch.autograd.grad(codes, (x, stored), slopes)]

    expected = gradients(contenders["plain loop"])
    differences = [
        max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(gradients(contenders[name]), expected, strict=True)
        )
        for name in ("CSCLayer", "careful loop")
    ]

    def both(function, layout):
        x = images.to(memory_format=layout).detach().requires_grad_(is_inner)
        function(x).backward(slopes)
        optimizer.step()
        optimizer.zero_grad()

    calls = {}
    for name, layout in LAYOUTS.items():
        x, codes = images.to(memory_format=layout), expected[0].detach().to(memory_format=layout)
        weight = layer.weight.detach().to(memory_format=layout)
        calls[f"floor, {name}"] = lambda x=x, z=codes, w=weight: convolutions(x, z, w, is_inner)
        for contender, function in contenders.items():
            calls[f"{contender}, {name}"] = lambda f=function, m=layout: both(f, m)
    milliseconds = least_milliseconds(calls, rounds, device, batch)

    best = {
        name: min(time for call, time in milliseconds.items() if call.startswith(name))
        for name in (*contenders, "floor")
    }
    memory = {
        name: peak_bytes(lambda f=function: [f(images.clone().requires_grad_(is_inner))], device) / batch
        for name, function in contenders.items()
    }
    return {
        "largest_relative_difference": max(differences),
        "milliseconds_an_image": milliseconds,
        "best_milliseconds_an_image": best,
        "times_as_fast_as": {name: best[name] / best["CSCLayer"] for name in best if name != "CSCLayer"},
        "peak_bytes_an_image": memory,
    }


def network_figures(batch, rounds, device):
    images = torch.rand(batch, 3, 32, 32, device=device)
    labels = torch.arange(batch, device=device) % 10
    calls = {}
    for name in ("resnet18", "sdnet18", "sdnet18_all"):
        torch.manual_seed(0)
        network = make_network(name, n_classes=10, image_shape=(32, 32, 3)).to(device).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

        def step(network=network, optimizer=optimizer):
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

        calls[name] = step
    milliseconds = least_milliseconds(calls, rounds, device, batch)
    return {
        "images_per_second": {name: 1000 / time for name, time in milliseconds.items()},
        "relative_to_resnet18": {name: milliseconds["resnet18"] / time for name, time in milliseconds.items()},
    }


def page(content):
    """The page of the figures."""
    rows = []
    for shape, case in content["layers"].items():
        best, ratio, memory = (
            case[key] for key in ("best_milliseconds_an_image", "times_as_fast_as", "peak_bytes_an_image")
        )
        rows.append(
            f"| {shape} | {best['CSCLayer']:.2f} | {best['floor']:.2f} | {ratio['plain loop']:.2f} | "
            f"{ratio['careful loop']:.2f} | {memory['CSCLayer'] / memory['plain loop']:.2f} |"
        )
    networks = [
        f"| {name} | {rate:.1f} | {content['networks']['relative_to_resnet18'][name]:.2f} |"
        for name, rate in content["networks"]["images_per_second"].items()
    ]
    return PAGE_TEXT.format(
        batch=content["batch"],
        processor=content["machine"]["processor"],
        threads=content["threads"],
        rounds=content["rounds"],
        layers="\n".join(rows),
        networks="\n".join(networks),
    )


PAGE_TEXT = """# Speed of CSCLayer

A forward and a backward pass of `skrobust.nn.CSCLayer` with two ISTA steps, beside the same steps in eager torch.
"Plain loop" starts from codes of zeros and synthesises them, too; "careful loop" leaves that out, as `CSCLayer` does.
Both are given the step size; the time of `CSCLayer` includes finding it. The floor is the convolutions alone.

| channels, atoms, pixels | CSCLayer, ms an image | floor, ms | times as fast as plain loop | as careful loop | \
memory, relative to the plain loop |
| --- | --- | --- | --- | --- | --- |
{layers}

Convolutions take most of the time in wide layers: a layer that leaves none out cannot be much faster than the careful
loop.

A training step of whole networks on images of 32 x 32 pixels, with one and with 20 layers of sparse coding:

| network | images per second | relative to ResNet-18 |
| --- | --- | --- |
{networks}

Conditions: float32, batches of {batch}, {threads} thread(s) of {processor}; minimum of {rounds} rounds, contenders in
turn, each in its faster memory layout. `python benchmarks/bench_nn.py` measures again and writes this page; the figures
are in `benchmarks/results/bench_nn.json`.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--output", type=pathlib.Path, default=None)
    parser.add_argument("--page", type=pathlib.Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False
    content = {
        "machine": machine("torch"),
        "device": "cpu" if args.device == "cpu" else torch.cuda.get_device_name(),
        "threads": args.threads,
        "batch": args.batch,
        "rounds": args.rounds,
        "layers": {},
    }
    for shape in SHAPES:
        figures = layer_figures(shape, args.batch, args.rounds, args.device)
        content["layers"][", ".join(map(str, shape))] = figures
        print(shape, {name: round(ratio, 2) for name, ratio in figures["times_as_fast_as"].items()}, flush=True)
    content["networks"] = network_figures(args.batch, args.rounds, args.device)
    print(json.dumps(content["networks"]))
    stem = "bench_nn" if args.device == "cpu" else "bench_nn_cuda"
    write_json(args.output or RESULTS / f"{stem}.json", content)
    if args.page is not None or args.device == "cpu":
        (args.page or PAGE).write_text(page(content), encoding="utf8")


if __name__ == "__main__":
    main()
