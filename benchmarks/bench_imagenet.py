"""Images of ImageNet's size, per second: the wavelet front end, and residual networks without and with a CSC layer.

    python benchmarks/bench_imagenet.py            # about 3 minutes; writes benchmarks/results/bench_imagenet.json
    python benchmarks/bench_imagenet.py --quick    # small networks, one round, no file

Synthetic float32 batches of 224 x 224 x 3. Networks have the stem of ImageNet and 1000 classes; "forward" is
prediction, "training" forward and backward.
"""

import argparse

import numpy as np
import torch
from _race import RESULTS, machine, race, summary, write_json
from threadpoolctl import threadpool_limits

from skrobust import WaveletSparsifier
from skrobust.nn import ImageNetwork, make_network

SHAPE = (224, 224, 3)
N_IMAGES = 8
NETWORKS = ("resnet18", "sdnet18")


def front_end(X, level):
    model = WaveletSparsifier("db5", n_nonzero_coefs=0.035, level=level, clip=(0, 1), n_jobs=2).fit(X)
    return lambda: model.transform(X)


def forward(network, images):
    def run():
        network.eval()
        with torch.inference_mode():
            network(images)

    return run


def training(network, images):
    labels = torch.arange(len(images))

    def run():
        network.train()
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    n_images, width, rounds = (2, 8, 1) if quick else (N_IMAGES, 64, 5)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    X = np.random.default_rng(0).random((n_images, *SHAPE), dtype=np.float32)
    images = torch.tensor(X)
    contenders = {f"WaveletSparsifier, level {level}": front_end(X, level) for level in (1, 3)}
    for name in NETWORKS:
        network = ImageNetwork(make_network(name, n_classes=1000, image_shape=SHAPE, width=width))
        contenders[f"{name}, forward"] = forward(network, images)
        contenders[f"{name}, training"] = training(network, images)
    with threadpool_limits(2):
        seconds = race(contenders, rounds=rounds, patience=3)
    rows = {
        name: {"images_per_second": n_images / one["median"], "seconds": one} for name, one in summary(seconds).items()
    }
    for name, row in rows.items():
        print(f"{name:30} {row['images_per_second']:9.1f} images/s")
    if not quick:
        settings = {"n_images": n_images, "image_shape": SHAPE, "dtype": "float32", "n_threads": 2, "width": width}
        write_json(
            RESULTS / "bench_imagenet.json",
            {"settings": settings, "rows": rows, "machine": machine("numpy", "torch", "numba")},
        )


if __name__ == "__main__":
    main()
