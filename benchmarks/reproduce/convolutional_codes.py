"""Convolutional codes of MNIST and CIFAR-10: atoms, sparsity against PSNR, linear SVM on pooled codes against pixels.

    SKROBUST_DATA=DIR python benchmarks/reproduce/convolutional_codes.py     # about 15 minutes on 2 cores
    python benchmarks/reproduce/convolutional_codes.py --quick               # a minute, bundled digits

For each data set: atoms learned from training images; for several alpha the share of coefficients that are not zero
and the PSNR of the synthesis on test images; the test accuracy of a linear SVM on pooled codes and on pixels, C chosen
by cross-validation for both. Accuracy is clean: nothing is attacked here. Writes convolutional_codes.json and .png.
"""

import argparse
import pathlib
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from skrobust import ConvSparseCoder
from skrobust.datasets import load_dataset

RESULTS = pathlib.Path(__file__).parents[1] / "results"
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.4)
TASKS = {  # images, atoms, kernel size, pool size, images to learn from, to train and to test on
    "mnist": ((28, 28), 32, 7, 7, 1000, 10_000, 2000),
    "cifar10": ((32, 32, 3), 64, 5, 8, 1000, 10_000, 2000),
}
QUICK = {"digits": ((8, 8), 8, 4, 4, 100, 300, 100)}


def study(name, shape, n_atoms, kernel_size, pool_size, n_learn, n_train, n_test, n_epochs):
    X, y = (values[:n_train] for values in load_dataset(name, split="train", return_X_y=True))
    X_test, y_test = (values[:n_test] for values in load_dataset(name, split="test", return_X_y=True))
    X, X_test = (values.reshape(len(values), -1).astype(np.float32) for values in (X, X_test))
    coder = ConvSparseCoder(
        n_atoms,
        kernel_size=kernel_size,
        alpha=0.1,
        n_epochs=n_epochs,
        image_shape=shape,
        positive=True,
        tol=0.01,
        random_state=0,
        verbose=1,
    )
    started = time.perf_counter()
    coder.fit(X[:n_learn])
    content = {"atoms": coder.components_.shape, "learning_seconds": time.perf_counter() - started}
    content["objectives"] = coder.objectives_
    content["curve"] = [sparsity_and_psnr(coder, alpha, X_test[:200]) for alpha in ALPHAS]
    folds = {"cv": 3}
    pixels = GridSearchCV(make_pipeline(MaxAbsScaler(), LinearSVC()), {"linearsvc__C": [1e-3, 1e-2, 1e-1, 1]}, **folds)
    pooled = ConvSparseCoder(
        dictionary=coder.components_,
        alpha=0.1,
        positive=True,
        tol=0.01,
        image_shape=shape,
        pool="sum",
        pool_size=pool_size,
    ).fit(X[:1])
    codes, codes_test = pooled.transform(X), pooled.transform(X_test)
    on_codes = GridSearchCV(make_pipeline(MaxAbsScaler(), LinearSVC()), {"linearsvc__C": [1e-2, 1e-1, 1, 10]}, **folds)
    content["linear_svm"] = {
        "n_train": len(y),
        "n_test": len(y_test),
        "pixels": {"features": X.shape[1], "accuracy": pixels.fit(X, y).score(X_test, y_test), **pixels.best_params_},
        "pooled codes": {
            "features": codes.shape[1],
            "accuracy": on_codes.fit(codes, y).score(codes_test, y_test),
            **on_codes.best_params_,
        },
    }
    return content, coder.components_


def sparsity_and_psnr(coder, alpha, X):
    """Share of coefficients and of pixels' worth of coefficients, and PSNR with a peak of 1."""
    fixed = ConvSparseCoder(
        dictionary=coder.components_,
        alpha=alpha,
        positive=coder.positive,
        tol=0.01,
        image_shape=coder.image_shape,
        sparse_output=True,
    ).fit(X[:1])
    codes = fixed.transform(X)
    errors = ((fixed.inverse_transform(codes).reshape(X.shape) - X) ** 2).mean(axis=1)
    return {
        "alpha": alpha,
        "share": codes.nnz / np.prod(codes.shape),
        "coefficients_per_value": codes.nnz / X.size,
        "psnr": float(np.mean(-10 * np.log10(np.maximum(errors, 1e-12)))),
    }


def draw(contents, dictionaries, path):
    figure, panels = plt.subplots(2, len(contents), figsize=(5 * len(contents), 7), squeeze=False, layout="constrained")
    for column, (name, content) in enumerate(contents.items()):
        atoms = dictionaries[name]
        across = int(np.ceil(np.sqrt(len(atoms))))
        height, width, channels = (size + (i < 2) for i, size in enumerate(atoms.shape[1:]))
        mosaic = np.ones((across * height + 1, across * width + 1, channels))
        for k, atom in enumerate(atoms):
            y, x = 1 + k // across * height, 1 + k % across * width
            spread = atom - atom.min()
            mosaic[y : y + height - 1, x : x + width - 1] = spread / max(spread.max(), 1e-12)
        panels[0, column].imshow(mosaic.squeeze(), cmap="gray", interpolation="nearest")
        panels[0, column].set_axis_off()
        panels[0, column].set_title(f"{name}: {len(atoms)} atoms", loc="left")
        curve = content["curve"]
        panels[1, column].plot([p["coefficients_per_value"] for p in curve], [p["psnr"] for p in curve], "o-")
        for point in curve:
            panels[1, column].annotate(f" {point['alpha']:g}", (point["coefficients_per_value"], point["psnr"]))
        panels[1, column].set(xlabel="coefficients a pixel value", ylabel="PSNR (dB), test images")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="bundled digits, seconds")
    parser.add_argument("--output-dir", type=pathlib.Path, default=None, help="default: benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contents, dictionaries = {}, {}
    for name, settings in (QUICK if arguments.quick else TASKS).items():
        contents[name], dictionaries[name] = study(name, *settings, n_epochs=3 if arguments.quick else 10)
        print(name, contents[name]["curve"], contents[name]["linear_svm"], sep="\n")
    directory = arguments.output_dir or (None if arguments.quick else RESULTS)
    if directory is not None:
        import sys

        sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
        from _race import write_json

        write_json(directory / "convolutional_codes.json", {"what": __doc__.splitlines()[0], **contents})
        draw(contents, dictionaries, directory / "convolutional_codes.png")


if __name__ == "__main__":
    main()
