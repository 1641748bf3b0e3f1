"""Denoising natural images with dictionaries, by the recipe of Elad and Aharon (IEEE Trans. Image Processing 15, 2006).

    python benchmarks/reproduce/denoise_natural_images.py            # about 10 minutes on one core
    python benchmarks/reproduce/denoise_natural_images.py --quick    # two small images, one noise level

scikit-image's grey images (the central 256 x 256 pixels) with Gaussian noise of sigma 15, 25 and 50 (of 255). 8 x 8
patches at stride 1, 256 atoms, pursuit down to 1.15 sigma, image weight 30 / sigma; atoms from the cosine transform, or
learned from the noisy image itself by ten iterations of K-SVD. The yardstick runs the same atoms and the same rule
through SPAMS, whose pursuit is orthogonal least squares, and through scikit-learn's image tools; beside them
scikit-image's wavelet denoising (BayesShrink; the better of Haar and sym4 by PSNR) and its non-local means (the better
of two strengths).

Writes benchmarks/results/denoise_natural_images.json and .png, and prints the table of docs/results/denoising.md.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import spams
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import denoise_nl_means, denoise_wavelet
from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d
from threadpoolctl import threadpool_limits

from skrobust import PatchDictionaryDenoiser
from skrobust.dictionaries import KSVD
from skrobust.displays import DictionaryDisplay

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _race import RESULTS, machine, write_json

IMAGES = ("camera", "coins", "moon", "page", "text", "brick", "grass", "gravel", "clock", "cell")
METHODS = ("noisy", "DCT", "K-SVD", "reference", "wavelets", "non-local means")
GAIN = 1.15


def by_reference(noisy, atoms, sigma, weight):
    """The same atoms and rule without a line of ours: scikit-learn cuts and averages, SPAMS codes."""
    patches = extract_patches_2d(noisy, (8, 8)).reshape(-1, 64)
    means = patches.mean(axis=1, keepdims=True)
    columns = np.asfortranarray((patches - means).T)
    codes = spams.omp(columns, D=np.asfortranarray(atoms.T), eps=float((GAIN * sigma * 8) ** 2), L=64, numThreads=1)
    average = reconstruct_from_patches_2d((codes.T @ atoms + means).reshape(-1, 8, 8), noisy.shape)
    rows, columns = (np.minimum(np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)), 8) for n in noisy.shape)
    coverage = np.outer(rows, columns)
    return ((average * coverage + weight * noisy) / (coverage + weight)).clip(0, 1)


def by_all_methods(clean, sigma, seed):
    """Every method's image, and the CPU seconds of the library's."""
    rng = np.random.default_rng(seed)
    noisy = clean + sigma * rng.standard_normal(clean.shape)
    weight = 30 / (255 * sigma)
    common = {
        "noise_std": sigma,
        "gain": GAIN,
        "image_weight": weight,
        "random_state": seed,
        "n_jobs": 1,
        "clip": (0, 1),
    }
    k_svd = KSVD(256, init="dct", residual_tol=GAIN * sigma * 8, max_iter=10, tol=0)
    models = {
        "DCT": PatchDictionaryDenoiser(256, dictionary="dct", **common),
        "K-SVD": PatchDictionaryDenoiser(learner=k_svd, **common),
    }
    images, seconds = {"noisy": noisy}, {}
    for name, model in models.items():
        start = time.process_time()
        images[name] = model.fit_transform(noisy[None])[0]
        seconds[name] = time.process_time() - start
    images["reference"] = by_reference(noisy, models["K-SVD"].components_, sigma, weight)
    wavelets = [
        denoise_wavelet(noisy, sigma=sigma, wavelet=wavelet, method="BayesShrink", rescale_sigma=True).clip(0, 1)
        for wavelet in ("db1", "sym4")
    ]
    means = [
        denoise_nl_means(noisy, patch_size=5, patch_distance=6, h=h * sigma, sigma=sigma, fast_mode=True).clip(0, 1)
        for h in (0.6, 0.8)
    ]
    for name, tried in (("wavelets", wavelets), ("non-local means", means)):
        images[name] = max(tried, key=lambda image: quality(clean, image)["psnr"])
    return images, seconds, models["K-SVD"].components_


def central(image, side):
    top, left = (max(0, (size - side) // 2) for size in image.shape)
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def quality(clean, image):
    return {
        "psnr": float(peak_signal_noise_ratio(clean, image, data_range=1)),
        "ssim": float(structural_similarity(clean, image, data_range=1)),
    }


def draw(images, clean, atoms, path):
    """A part of one image as each method leaves it, and the atoms learned from it."""
    from matplotlib.figure import Figure

    pictures = {"clean": clean, **images}
    pictures.pop("reference")
    part = np.s_[:128, 60:188]
    figure = Figure(figsize=(9.6, 4.9), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    for ax, (name, image) in zip(axes, pictures.items(), strict=False):
        ax.imshow(image[part].clip(0, 1), cmap="gray", vmin=0, vmax=1)
        psnr = "" if name == "clean" else f", {quality(clean, image)['psnr']:.2f} dB"
        ax.set_title(f"{name}{psnr}", fontsize=9)
        ax.axis("off")
    DictionaryDisplay(atoms.reshape(-1, 8, 8)).plot(ax=axes[len(pictures)])
    axes[len(pictures)].set_title("atoms learned from the noisy image", fontsize=9)
    for ax in axes[len(pictures) + 1 :]:
        ax.remove()
    figure.savefig(path, dpi=90)


def table(rows):
    lines = [
        "| image | sigma | " + " | ".join(METHODS) + " |",
        "| --- | --- |" + " --- |" * len(METHODS),
    ]
    for row in rows:
        values = {name: row["quality"][name]["psnr"] for name in METHODS}
        best = max(values[name] for name in METHODS if name != "reference")
        cells = [f"**{v:.2f}**" if v == best and name != "reference" else f"{v:.2f}" for name, v in values.items()]
        lines.append(f"| {row['image']} | {row['sigma']} | " + " | ".join(cells) + " |")
    return lines


def verdict(rows):
    """How often K-SVD is at or above the others, and how far it is from the reference."""
    psnr = {name: np.array([row["quality"][name]["psnr"] for row in rows]) for name in METHODS}
    return {
        "n": len(rows),
        "largest_difference_to_reference_db": float(np.abs(psnr["K-SVD"] - psnr["reference"]).max()),
        "above_wavelets": int((psnr["K-SVD"] > psnr["wavelets"]).sum()),
        "at_or_above_non_local_means": int((psnr["K-SVD"] >= psnr["non-local means"]).sum()),
        "mean_psnr": {name: float(values.mean()) for name, values in psnr.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=None)
    parser.add_argument("--figure", default=None)
    args = parser.parse_args()
    names, sigmas = (("text", "coins"), (25,)) if args.quick else (IMAGES, (15, 25, 50))
    stem = "denoise_natural_images" + "_quick" * args.quick
    rows = []
    with threadpool_limits(1, user_api="blas"):
        for name in names:
            for sigma in sigmas:
                clean = central(getattr(data, name)() / 255, 96 if args.quick else 256)
                images, seconds, atoms = by_all_methods(clean, sigma / 255, args.seed)
                scores = {method: quality(clean, image) for method, image in images.items()}
                rows.append({"image": name, "sigma": sigma, "quality": scores, "cpu_seconds": seconds})
                print(name, sigma, {method: round(score["psnr"], 2) for method, score in scores.items()}, flush=True)
                if (name, sigma) == (names[0], 25):
                    draw(images, clean, atoms, args.figure or RESULTS / f"{stem}.png")
    write_json(
        args.output or RESULTS / f"{stem}.json",
        {
            "machine": machine("numpy", "scikit-image", "scikit-learn", "spams-bin"),
            "seed": args.seed,
            "settings": "8 x 8 patches, stride 1, 256 atoms, gain 1.15, weight 30 / sigma; K-SVD from DCT, 10 passes",
            "verdict": verdict(rows),
            "rows": rows,
        },
    )
    print("\n".join(table(rows)))
    print(verdict(rows))


if __name__ == "__main__":
    main()
