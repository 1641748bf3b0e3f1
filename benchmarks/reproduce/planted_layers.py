"""Planted multi-layer sparse signals: which pursuit recovers the codes, and do the theorems predict it?

    python benchmarks/reproduce/planted_layers.py            # under three minutes on one core
    python benchmarks/reproduce/planted_layers.py --quick    # seconds: runs through all parts, no result

Signals X = D1 Gamma1, Gamma1 = D2 Gamma2, ..., plus noise. All codes of such a chain are sparse only if the deeper
dictionaries are: their columns have few entries other than zero here, as in J. Sulam, V. Papyan, Y. Romano, M. Elad,
"Multi-layer convolutional sparse modeling". Everything is dense (one position), so that the theorems' local norms are
the global ones. Four pursuits know the dictionaries: L-THR, L-BP, deep pursuit and projection (ML-FISTA).

1. theorems: two layers made so that the theorems of "Adversarial noise attacks of deep learning architectures" (Romano
   et al.) apply: their bounds beside measured errors, and where the bounds are vacuous.
2. recovery: supports of two layers found exactly, over noise, sparsity and the range of coefficients. Every method's
   two penalties are tuned on signals of their own for each condition; L-THR, which takes no time, over a finer grid.
3. complete, overcomplete: networks of one to six layers on the same signals; errors of each layer's codes. Penalties
   a b^i, a and b tuned for each method and depth. Inner dictionaries are invertible, or have more columns each.

Writes planted_layers.json and planted_layers.png.
"""

import argparse
import itertools
import json
import pathlib
import time
import warnings
from functools import partial

import numpy as np
import torch
from scipy.linalg import hadamard
from sklearn.exceptions import ConvergenceWarning

import skrobust
from skrobust.dictionaries import layered_coherence
from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit, layered_thresholding, multilayer_pursuit

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
NOT_ZERO = 1e-6
"""Coefficients of at most this size count as zero; the largest planted ones are 1."""
NOISE_OF_DEPTH = 0.1
"""Norm of the noise over that of the signal."""


# --- The model ------------------------------------------------------------------------------------------------------


def layered(dictionaries):
    """Matrices, atoms in their columns, as a layered dictionary of one position."""
    operators, shape = [], (1, len(dictionaries[0]))
    for D in dictionaries:
        operators.append(ConvolutionalOperator(np.ascontiguousarray(D.T)[:, None], shape, padding="valid"))
        shape = operators[-1].code_shape
    return LayeredDictionary(operators)


def two_bases(n):
    """Identity and Hadamard basis side by side: n x 2n, mutual coherence 1 / sqrt(n)."""
    return np.concatenate([np.eye(n), hadamard(n) / np.sqrt(n)], axis=1)


def private_and_shared(n_private, n_shared, weight, rng):
    """Columns with a row of their own, and one they may share: mutual coherence 1 - weight^2, or none."""
    D = np.zeros((n_private + n_shared, n_private))
    D[np.arange(n_private), np.arange(n_private)] = weight
    D[n_private + rng.integers(n_shared, size=n_private), np.arange(n_private)] = np.sqrt(1 - weight**2)
    return D


def few_rows(n, n_columns, n_entries, rng):
    """Columns with equal entries in a few rows, any two of them with at most one row in common."""
    columns, used_pairs = [], set()
    while len(columns) < n_columns:
        rows = np.sort(rng.choice(n, n_entries, replace=False))
        pairs = set(itertools.combinations(rows.tolist(), 2))
        if not pairs & used_pairs:
            used_pairs |= pairs
            columns.append(np.isin(np.arange(n), rows) / np.sqrt(n_entries))
    return np.array(columns).T


def grouped(n_groups, height, width, rng):
    """Well-conditioned blocks on the diagonal, two entries a column: no code leaves its groups, however deep."""
    D = np.zeros((n_groups * height, n_groups * width))
    for group in range(n_groups):
        block = np.zeros((height, width))
        while np.linalg.matrix_rank(block) < height or np.linalg.cond(block) > 3:
            block[:] = 0
            for column in block.T:
                rows = rng.choice(height, 2, replace=False)
                angle = rng.uniform(0.1, 0.9) * np.pi / 2
                column[rows] = np.array([np.cos(angle), np.sin(angle)]) * rng.choice([-1, 1], 2)
        D[group * height : (group + 1) * height, group * width : (group + 1) * width] = block
    return D


def plant(dictionaries, deepest):
    """All codes, from the deepest up, and the signals."""
    codes = [deepest]
    for D in reversed(dictionaries):
        codes.insert(0, codes[0] @ D.T)
    return codes[0], codes[1:]


def sparse_codes(n_signals, n_atoms, sparsity, lowest, rng, signed):
    """`sparsity` coefficients of sizes between `lowest` and 1."""
    codes = np.zeros((n_signals, n_atoms))
    for row in codes:
        values = rng.uniform(lowest, 1, sparsity) * (rng.choice([-1, 1], sparsity) if signed else 1)
        row[rng.choice(n_atoms, sparsity, replace=False)] = values
    return codes


# --- The theorems ---------------------------------------------------------------------------------------------------


def basis_pursuit_limit(coherence):
    """Theorem 11 a: sparsity up to which it speaks of a layer."""
    return (1 + 1 / coherence) / 3


def basis_pursuit_errors(noise, sparsities):
    """Theorem 11 b: eps_0, eps_1, ...; penalties are 4 eps_{i-1}, for one half of the squared residual."""
    errors = [noise]
    for sparsity in sparsities:
        errors.append(7.5 * np.sqrt(sparsity) * errors[-1])
    return errors


def thresholding_errors(noise, codes, coherences):
    """Theorem 10: thresholds and eps_0, eps_1, ... as far as thresholds exist that it allows."""
    thresholds, errors = [], [noise]
    for code, coherence in zip(codes, coherences, strict=True):
        sizes = np.abs(code[np.abs(code) > NOT_ZERO])
        within, without = (len(sizes) - 1) * coherence * sizes.max(), len(sizes) * coherence * sizes.max()
        low, high = without + errors[-1], sizes.min() - within - errors[-1]
        if low >= high:
            break
        thresholds.append((low + min(high, 1.01 * low)) / 2)
        errors.append(np.sqrt(len(sizes)) * (errors[-1] + within + thresholds[-1]))
    return thresholds, errors


def part_theorems(quick):
    """Two layers within reach of the theorems."""
    rng = np.random.default_rng(0)
    n = 64 if quick else 256
    dictionaries = [two_bases(n), private_and_shared(3 * n // 2, n // 2, 0.9, rng)]
    layers = layered(dictionaries)
    coherences = layered_coherence(layers, n_jobs=1).layer_mutual_coherence
    n_signals, rows = (4, []) if quick else (40, [])
    deepest = []
    while len(deepest) < n_signals:
        code = sparse_codes(1, dictionaries[1].shape[1], 2, 1.0, rng, signed=True)[0]
        if (np.abs(dictionaries[1] @ code) > NOT_ZERO).sum() == 4:  # no row shared by the two
            deepest.append(code)
    clean, codes = plant(dictionaries, np.array(deepest))
    directions = rng.normal(size=clean.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    limits = [basis_pursuit_limit(mu) for mu in coherences]
    for noise in (0.01,) if quick else (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1):
        signals = clean + noise * directions
        promised = basis_pursuit_errors(noise, [4, 2])
        penalties = [4 * error for error in promised[:2]]
        found = layered_basis_pursuit(
            signals[:, None], layers, penalties, positive=False, tol=1e-7, max_iter=20_000, n_jobs=1
        )
        row = {"noise": noise, "L-BP": [], "L-THR": []}
        for i, (w, true) in enumerate(zip(found, codes, strict=True)):
            w = w[:, 0]
            errors = np.linalg.norm(w - true, axis=1)
            large = np.abs(true) > 7.5 * promised[i]
            row["L-BP"].append(
                {
                    "promised": promised[i + 1],
                    "largest_error": errors.max(),
                    "median_share_of_promise": np.median(errors / promised[i + 1]),
                    # An error as large as the code itself is that of answering zero.
                    "vacuous": bool(promised[i + 1] >= np.linalg.norm(true, axis=1).min()),
                    "within_support": np.mean(
                        [not (np.abs(a) > NOT_ZERO)[np.abs(b) <= NOT_ZERO].any() for a, b in zip(w, true, strict=True)]
                    ),
                    "coefficients_promised": large.sum() / (np.abs(true) > NOT_ZERO).sum(),
                    "of_these_found": np.mean(np.abs(w[large]) > NOT_ZERO) if large.any() else None,
                    "support_exact": exact(w, true).mean(),
                }
            )
        bounds = [thresholding_errors(noise, [c[k] for c in codes], coherences) for k in range(n_signals)]
        for i in range(2):
            applicable = [k for k, (thresholds, _) in enumerate(bounds) if len(thresholds) > i]
            entry = {"signals_it_speaks_of": len(applicable) / n_signals}
            if applicable:
                of_layer = LayeredDictionary(layers.operators[: i + 1])
                estimates = [
                    layered_thresholding(signals[k : k + 1, None], of_layer, bounds[k][0][: i + 1], positive=False)[i][
                        0, 0
                    ]
                    for k in applicable
                ]
                errors = [np.linalg.norm(w - codes[i][k]) for w, k in zip(estimates, applicable, strict=True)]
                entry |= {
                    "promised": max(bounds[k][1][i + 1] for k in applicable),
                    "largest_error": max(errors),
                    "largest_share_of_promise": max(
                        e / bounds[k][1][i + 1] for e, k in zip(errors, applicable, strict=True)
                    ),
                    "support_exact": np.mean(
                        [exact(w[None], codes[i][k][None])[0] for w, k in zip(estimates, applicable, strict=True)]
                    ),
                }
            row["L-THR"].append(entry)
        rows.append(row)
        print(json.dumps(row, default=float), flush=True)
    sizes = [float(np.linalg.norm(c, axis=1).min()) for c in codes]
    return {
        "coherences": list(coherences),
        "sparsities": [4, 2],
        "limits_of_L-BP": limits,
        "norms_of_codes": sizes,
        "n_signals": n_signals,
        "rows": rows,
    }


# --- Recovery -------------------------------------------------------------------------------------------------------


def exact(found, true):
    """Which supports are those planted."""
    return ((np.abs(found) > NOT_ZERO) == (np.abs(true) > NOT_ZERO)).all(axis=1)


def overlap(found, true):
    """F1 of supports."""
    found, true = np.abs(found) > NOT_ZERO, np.abs(true) > NOT_ZERO
    return 2 * (found & true).sum(axis=1) / np.maximum(found.sum(axis=1) + true.sum(axis=1), 1)


def distance(found, true):
    """Relative error of codes."""
    return np.linalg.norm(found - true, axis=1) / np.linalg.norm(true, axis=1)


def pursuits(max_iter, positive):
    """The four, as functions of tensors and penalties that return codes of all layers."""

    def codes_of(function, **params):
        def pursue(X, layers, penalties):
            found = function(
                torch.tensor(X[:, None], dtype=torch.float32), layers, penalties, positive=positive, **params
            )
            return [w.numpy()[:, 0].astype(np.float64) for w in found]

        return pursue

    return {
        "L-THR": codes_of(layered_thresholding),
        "L-BP": codes_of(layered_basis_pursuit, max_iter=max_iter),
        "deep pursuit": codes_of(deep_pursuit, max_iter=max_iter),
        "projection": codes_of(multilayer_pursuit, max_iter=max_iter),
    }


def tuned(pursue, candidates, X, layers, score):
    """The penalties with the best score on validation signals, the first of equals."""
    return max(candidates, key=lambda penalties: score(pursue(X, layers, penalties)))


def part_recovery(quick):
    """Two layers: exact supports over noise, sparsity and range of coefficients."""
    n, n_columns = (16, 20) if quick else (64, 160)
    rng = np.random.default_rng(1)
    dictionaries = [two_bases(n), few_rows(2 * n, n_columns, 3, rng)]
    layers = layered(dictionaries)
    grid = np.geomspace(0.01, 0.6, 2 if quick else 6)
    candidates = [list(pair) for pair in itertools.product(grid, grid)]
    fine = [list(pair) for pair in itertools.product(np.geomspace(0.01, 2, 3 if quick else 20), repeat=2)]
    n_validation, n_test, max_iter = (4, 4, 5) if quick else (24, 200, 100)
    centre = {"noise": 0.1, "sparsity": 2, "lowest": 0.5}
    sweeps = {
        "noise": (0.1,) if quick else (0.0, 0.1, 0.2, 0.4, 0.8),
        "sparsity": (1,) if quick else (1, 2, 3, 5),
        "lowest": (1.0,) if quick else (1.0, 0.5, 0.25, 0.1),
    }
    known, curves = {}, {}
    for name, values in sweeps.items():
        curves[name] = []
        for value in values:
            condition = {**centre, name: value}
            key = tuple(condition.values())
            if key not in known:
                known[key] = _recovered(
                    condition, dictionaries, layers, (candidates, fine), n_validation, n_test, max_iter
                )
            curves[name].append({name: value, **known[key]})
            shares = {k: round(v["exact"][1], 2) for k, v in known[key].items()}
            print(name, value, shares, flush=True)
    measures = layered_coherence(layers, n_jobs=1)
    return {
        "centre": centre,
        "coherences": list(measures.layer_mutual_coherence),
        "n_signals": n_test,
        "n_candidates": {"L-THR": len(fine), "others": len(candidates)},
        "max_iter": max_iter,
        "curves": curves,
    }


def _recovered(condition, dictionaries, layers, candidates, n_validation, n_test, max_iter):
    rng = np.random.default_rng(2)
    drawn = []
    for n_signals in (n_validation, n_test):
        deepest = sparse_codes(
            n_signals, dictionaries[1].shape[1], condition["sparsity"], condition["lowest"], rng, False
        )
        clean, codes = plant(dictionaries, deepest)
        drawn.append((clean + noise_like(clean, condition["noise"], rng), codes))
    (X_validation, validation), (X, codes) = drawn

    def score(found):
        # Exact supports of the deepest layer; F1 where few are exact.
        return exact(found[-1], validation[-1]).mean() + 0.1 * overlap(found[-1], validation[-1]).mean()

    result = {}
    for name, pursue in pursuits(max_iter, positive=True).items():
        penalties = tuned(pursue, candidates[name == "L-THR"], X_validation, layers, score)
        found = pursue(X, layers, penalties)
        result[name] = {
            "penalties": penalties,
            "exact": [exact(w, c).mean() for w, c in zip(found, codes, strict=True)],
            "f1": [overlap(w, c).mean() for w, c in zip(found, codes, strict=True)],
            "error": [distance(w, c).mean() for w, c in zip(found, codes, strict=True)],
        }
    return result


# --- Depth ----------------------------------------------------------------------------------------------------------


def part_depth(quick, growth):
    """One to six layers on signals of a chain of six, whose inner dictionaries have blocks of `growth` more columns."""
    depth = 3 if quick else 6
    n, n_groups, active = (16, 6, 1) if quick else (64, 24, 2)
    n_validation, n_test, max_iter = (4, 4, 5) if quick else (20, 100, 150)
    grid = list(itertools.product(np.geomspace(1e-4, 0.3, 2 if quick else 8), (1.0,) if quick else (0.3, 1.0, 3.0)))
    fine = list(
        itertools.product(np.geomspace(1e-3, 2, 2 if quick else 30), (0.5, 1.0) if quick else (0.5, 0.7, 1, 1.4, 2))
    )
    rng = np.random.default_rng(3)
    first = rng.normal(size=(n, 4 * n_groups))
    dictionaries = [first / np.linalg.norm(first, axis=0)]
    dictionaries += [grouped(n_groups, 4 + growth * i, 4 + growth * (i + 1), rng) for i in range(depth - 1)]
    X_validation, validation, _ = _in_groups(dictionaries, n_groups, active, n_validation, rng)
    X, codes, clean = _in_groups(dictionaries, n_groups, active, n_test, rng)
    rows = []
    for n_layers in [d for d in (1, 2, 3, 4, 6) if d <= depth]:
        layers = layered(dictionaries[:n_layers])
        candidates = [[[a * b**i for i in range(n_layers)] for a, b in pairs] for pairs in (grid, fine)]

        def score(found, true=validation[n_layers - 1]):
            return -distance(found[-1], true).mean()

        row = {}
        for name, pursue in pursuits(max_iter, positive=False).items():
            penalties = tuned(pursue, candidates[name == "L-THR"], X_validation, layers, score)
            found = pursue(X, layers, penalties)
            made = found[-1]
            for D in reversed(dictionaries[:n_layers]):
                made = made @ D.T
            row[name] = {
                "penalties": penalties,
                "errors": [distance(w, c).mean() for w, c in zip(found, codes, strict=False)],
                "exact": exact(found[-1], codes[n_layers - 1]).mean(),
                "signal_error": distance(made, clean).mean(),
            }
        rows.append({"layers": n_layers, **row})
        print(n_layers, {k: [round(float(e), 3) for e in v["errors"]] for k, v in row.items()}, flush=True)
    return {
        "noise": NOISE_OF_DEPTH,
        "n_signals": n_test,
        "n_candidates": {"L-THR": len(fine), "others": len(grid)},
        "max_iter": max_iter,
        "atoms": [D.shape[1] for D in dictionaries],
        "sparsities": [float((np.abs(c) > NOT_ZERO).sum(axis=1).mean()) for c in codes],
        "condition_of_inner_product": float(np.linalg.cond(np.linalg.multi_dot(dictionaries[1:]))),
        "rows": rows,
    }


def _in_groups(dictionaries, n_groups, active, n_signals, rng):
    """Noisy signals with one deepest atom in each of a few groups, their codes, and the signals without noise."""
    width = dictionaries[-1].shape[1] // n_groups
    deepest = np.zeros((n_signals, n_groups, width))
    for code in deepest:
        groups, atoms = rng.choice(n_groups, active, replace=False), rng.integers(width, size=active)
        code[groups, atoms] = rng.uniform(0.5, 1, active) * rng.choice([-1, 1], active)
    clean, codes = plant(dictionaries, deepest.reshape(n_signals, -1))
    return clean + noise_like(clean, NOISE_OF_DEPTH, rng), codes, clean


def noise_like(clean, share, rng):
    """Gaussian directions with this share of each signal's norm."""
    noise = rng.normal(size=clean.shape)
    return share * noise * np.linalg.norm(clean, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)


PARTS = {
    "theorems": part_theorems,
    "recovery": part_recovery,
    "complete": partial(part_depth, growth=0),
    "overcomplete": partial(part_depth, growth=1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help=f"folder of JSON and PNG; default: {RESULTS.name}/")
    parser.add_argument("--quick", action="store_true", help="seconds: no result")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="parts to run; the JSON keeps the others'")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error", ConvergenceWarning)
    folder = arguments.output or (None if arguments.quick else RESULTS)
    path = folder and folder / "planted_layers.json"
    known = json.loads(path.read_text(encoding="utf-8"))["parts"] if path and path.exists() else {}
    for name in arguments.only or PARTS:
        started = time.process_time()
        known[name] = PARTS[name](arguments.quick)
        known[name]["processor_seconds"] = round(time.process_time() - started, 1)
    if path:
        folder.mkdir(parents=True, exist_ok=True)
        content = {"what": __doc__.splitlines()[0], "skrobust": skrobust.__version__, "parts": known}
        path.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")
        if set(known) == set(PARTS):
            draw(known, folder / "planted_layers.png")
        print(f"wrote {path}")


def draw(parts, path):
    """Recovery in the upper row; depth, and promised beside measured errors, in the lower one."""
    from skrobust.displays.drawing.style import GRID, INK, MODEL_COLORS, drawing, line_style, model_colors

    recovery, theorems = parts["recovery"], parts["theorems"]
    names = list(next(iter(recovery["curves"].values()))[0].keys() - {"noise", "sparsity", "lowest"})
    names = [name for name in ("L-THR", "L-BP", "deep pursuit", "projection") if name in names]
    colors = model_colors(names)
    with drawing() as plt:
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")

        def curve(ax, x, y, name):
            ax.plot(
                x,
                y,
                color=colors[name],
                linestyle=line_style(names.index(name)),
                linewidth=1.8,
                marker="o",
                markersize=4,
                label=name,
                zorder=3,
            )

        labels = {
            "noise": "noise over signal",
            "sparsity": "atoms of the second layer",
            "lowest": "smallest over largest coefficient",
        }
        for ax, (key, rows) in zip(axes[0], recovery["curves"].items(), strict=True):
            for name in names:
                curve(ax, [row[key] for row in rows], [100 * row[name]["exact"][1] for row in rows], name)
            ax.set(xlabel=labels[key], ylim=(-3, 103))
        axes[0, 0].set_ylabel("exact supports, layer 2, %")
        axes[0, 2].invert_xaxis()
        for ax, kind in zip(axes[1], ("complete", "overcomplete"), strict=False):
            for name in names:
                rows = parts[kind]["rows"]
                curve(ax, [row["layers"] for row in rows], [row[name]["errors"][-1] for row in rows], name)
            ax.set(xlabel="layers", ylim=(0, 1.05))
            ax.set_title(f"{kind} inner dictionaries", loc="left")
        axes[1, 0].set_ylabel("relative error, deepest codes")
        ax, rows = axes[1, 2], theorems["rows"]
        noises = [row["noise"] for row in rows]
        for i in range(2):
            ax.loglog(
                noises,
                [row["L-BP"][i]["promised"] for row in rows],
                color=MODEL_COLORS[1],
                alpha=0.45 + 0.4 * i,
                linestyle="--",
                label=f"layer {i + 1}, promised",
            )
            ax.loglog(
                noises,
                [row["L-BP"][i]["largest_error"] for row in rows],
                color=MODEL_COLORS[1],
                alpha=0.45 + 0.4 * i,
                marker="o",
                markersize=4,
                linestyle="",
                label=f"layer {i + 1}, measured",
            )
        ax.axhline(theorems["norms_of_codes"][1], color=INK, linewidth=0.8)
        ax.annotate(
            "norm of the codes",
            (noises[0], theorems["norms_of_codes"][1]),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
        ax.set(xlabel="noise", ylabel="error of codes, L-BP")
        ax.legend(fontsize=8, loc="lower right")
        for ax in axes.ravel():
            ax.set_axisbelow(True)
            ax.grid(axis="y", color=GRID, linewidth=0.8)
            ax.tick_params(length=0, which="both")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, handlelength=2.8)
        figure.savefig(path, dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    main()
