"""Which level should `WaveletSparsifier` have by default? PSNR at fixed sparsity, and accuracy behind it on MNIST.

    python benchmarks/search_wavelet_level.py --data-home DIR

Levels 1 to 5 and the default, the deepest that halves every size exactly, on 500 images of MNIST, 500 of CIFAR-10 (in
YCbCr, chroma at two sevenths of the sparsity of luma, as the published 3.5, 1, 1 %) and five photographs of
scikit-image (256 x 256, grey), with four wavelets. PSNR is of the images clipped to [0, 1], averaged over images.
Accuracy is that of a linear SVM trained on 3000 sparsified digits, on 1000 others.

Writes benchmarks/results/search_wavelet_level.json.
"""

import argparse
import json
import pathlib

import numpy as np
from _race import RESULTS, machine
from skimage import data, transform
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import WaveletSparsifier
from skrobust.datasets import load_dataset

LEVELS = [1, 2, 3, 4, 5, None]
WAVELETS = ["haar", "coif1", "db5", "sym9"]
SPARSITIES = [0.02, 0.035, 0.1]
N_IMAGES, N_TRAIN, N_TEST = 500, 3000, 1000


def photographs():
    """Five photographs of scikit-image, grey, 256 x 256, in [0, 1]."""
    images = [data.camera(), data.coins(), data.moon(), data.page(), data.text()]
    return np.array([transform.resize(image / 255, (256, 256), anti_aliasing=True) for image in images])


def psnr(X, cleaned):
    """Mean over images of the peak signal-to-noise ratio for values in [0, 1]."""
    errors = ((X - cleaned) ** 2).reshape(len(X), -1).mean(axis=1)
    return float(-10 * np.log10(np.maximum(errors, 1e-10)).mean())


def sparsifier(wavelet, sparsity, level, has_color, **params):
    """The front end; for colour images in YCbCr."""
    share = (sparsity, sparsity * 2 / 7, sparsity * 2 / 7) if has_color else sparsity
    color_space = "ycbcr" if has_color else None
    params = {"level": level, "color_space": color_space, "clip": (0, 1), **params}
    return WaveletSparsifier(wavelet, n_nonzero_coefs=share, **params)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST and CIFAR-10")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "search_wavelet_level.json")
    arguments = parser.parse_args()
    params = {"data_home": arguments.data_home, "return_X_y": True}
    digits, labels = load_dataset("mnist", split="train", **params)
    colours, _ = load_dataset("cifar10", split="test", **params)
    sets = {
        "MNIST": digits[:N_IMAGES].reshape(-1, 28, 28),
        "CIFAR-10": colours[:N_IMAGES].reshape(-1, 32, 32, 3),
        "photographs": photographs(),
    }
    rows = []
    for name, images in sets.items():
        for wavelet in WAVELETS:
            for sparsity in SPARSITIES:
                for level in LEVELS:
                    front_end = sparsifier(wavelet, sparsity, level, images.ndim == 4).fit(images)
                    row = {
                        "images": name,
                        "wavelet": wavelet,
                        "sparsity": sparsity,
                        "level": level,
                        "level_used": front_end.level_,
                        "is_orthonormal": front_end.is_orthonormal_,
                        "psnr": round(psnr(images, front_end.transform(images)), 2),
                    }
                    if name == "MNIST" and level in (1, 2, 3):
                        model = make_pipeline(
                            sparsifier(wavelet, sparsity, level, False, image_shape=(28, 28)),
                            LinearSVC(C=0.01, random_state=0),
                        ).fit(digits[:N_TRAIN], labels[:N_TRAIN])
                        test = slice(N_TRAIN, N_TRAIN + N_TEST)
                        row["accuracy"] = round(float(model.score(digits[test], labels[test])), 4)
                    rows.append(row)
            print(name, wavelet, flush=True)
    content = {"machine": machine(), "n_images": N_IMAGES, "n_train": N_TRAIN, "n_test": N_TEST, "rows": rows}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    for name in sets:
        for sparsity in SPARSITIES:
            of_both = [row for row in rows if row["images"] == name and row["sparsity"] == sparsity]
            means = {
                str(level): round(float(np.mean([row["psnr"] for row in of_both if row["level"] == level])), 1)
                for level in LEVELS
            }
            print(f"{name:>12} {sparsity:6.3f}", means)


if __name__ == "__main__":
    main()
