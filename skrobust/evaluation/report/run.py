"""`robustness_report`: attack the models and collect the results."""

import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from tqdm import tqdm

from skrobust.bridge.inputs import check_feature_names
from skrobust.evaluation.corruptions.apply import Corruption
from skrobust.evaluation.defaults import black_box_attacks, default_attacks
from skrobust.evaluation.masking import CHECKS
from skrobust.evaluation.masking.run import run_checks
from skrobust.evaluation.scoring.robust import (
    all_corruptions,
    checked_attacks,
    evenly_spread,
    is_adversary,
    module_of,
    predicted_labels,
    same_classes,
)
from skrobust.signals.clip import clip_range

from .checkpoint import Checkpoint
from .examples import collect_examples
from .images import image_layout
from .report import RobustnessReport
from .trials import passes_per_image, position_in_grid, run_trial

# Images stored per attack: candidates for galleries, over which PSNR and SSIM are averaged.
_N_WITNESSES = 100
# Images used by the masking checks, and about how many passes of each a check takes, for the progress bar.
_N_CHECKED = 100
_PASSES_OF_CHECK = 100


@validate_params(
    {
        "model": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "eps": [Real, list, tuple, np.ndarray],
        "attacks": "no_validation",
        "baseline": "no_validation",
        "focus_eps": [Interval(Real, 0, None, closed="left"), None],
        "norm": [StrOptions({"linf", "l2", "l1"}), None],
        "clip": [tuple, list, None],
        "corruptions": [list, tuple, Corruption, StrOptions({"all"}), None],
        "checks": ["boolean"],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "n_examples": [Interval(Integral, 0, _N_WITNESSES, closed="both")],
        "image_shape": [tuple, list, None],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "checkpoint": "no_validation",
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def robustness_report(
    model,
    X,
    y,
    *,
    eps,
    attacks=None,
    baseline=None,
    focus_eps=None,
    norm=None,
    clip=(0, 1),
    corruptions=None,
    checks=True,
    confidence=0.95,
    n_examples=8,
    image_shape=None,
    random_state=0,
    checkpoint=None,
    verbose=0,
):
    """Attack one or several models at several eps and report the accuracy.

    Every model is attacked by every attack at every eps. An image survives an eps only if no attack broke it there or
    at a smaller eps (whose perturbations are still admissible), so the curves are monotone. Attacked images are
    evaluated by the model's own ``predict``. An attack that leaves its ball or box raises an error.

    Parameters
    ----------
    model : fitted classifier, or dict of str to fitted classifier
        A Pipeline, a search, a single classifier or a torch module; several of them by name.
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        Test images, unseen in training and tuning.
    y : array-like of shape (n_samples,)
    eps : float or sequence of float
        Radii of the ball, in the units of X.
    attacks : attack, list of attacks, "quick" or None, default=None
        Their eps is replaced by each of `eps`, and a missing `random_state` by the report's. An eps that is an array
        is scaled: its largest value becomes each of `eps`. None: noise, FGSM and PGD through every backward pass of
        the front ends, the front-end paper's attacks, a cascade of iterated attacks that target each other class in
        turn, and with a `baseline` PGD transferred from it. On a model without gradients: noise and Square, and
        the transferred PGD. "quick": these defaults without the cascade, which takes most of their time.
    baseline : fitted classifier, dict with one, or None, default=None
        The model to compare with: the same classifier, undefended and tuned equally hard.
    focus_eps : float or None, default=None
        The one of `eps` used for the gallery and the conclusions, preferably the one used for tuning; None: the
        middle one.
    norm : {"linf", "l2", "l1"} or None, default=None
        None: that of `attacks`, else "linf".
    clip : pair or None, default=(0, 1)
        Range of valid values, for the default attacks and the gallery: numbers or arrays, see `PGD`.
    corruptions : Corruption, list of them, "all" or None, default=None
        Evaluated in addition to the attacks. "all": every kind that applies to the images, at severity 3
        (`corruptions_for`), with black and white given by `clip`.
    checks : bool, default=True
        Run `masking_checks` on each model, at the eps where its accuracy under attack is closest to one half.
    confidence : float in (0, 1), default=0.95
        Confidence level of the intervals.
    n_examples : int, default=8
        Images in the gallery.
    image_shape : tuple of int or None, default=None
        Height, width and channels of flattened images; None: that of the model's front end, else a square.
    random_state : int, default=0
    checkpoint : str, path-like or None, default=None
        File that stores finished attacks. An interrupted report resumes from it if called again with the same models,
        images and settings.
    verbose : int, default=0
        Show a progress bar.

    Returns
    -------
    RobustnessReport

    Raises
    ------
    ValueError
        If eps is negative, attacks differ in norm, one leaves its ball, or X is a data frame with columns that a model
        rejects.
    TypeError
        If an attack has no `perturb`, or the model no `predict`.
    skrobust.bridge.NoGradientError
        If given attacks need gradients and a model has none.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import FGSM
    >>> from skrobust.evaluation import robustness_report
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression(max_iter=500).fit(X[:1000], y[:1000])
    >>> report = robustness_report(model, X[1000:1200], y[1000:1200], eps=[0.05, 0.1], attacks=FGSM())
    >>> eps, accuracy, low, high = report.curve("model")
    >>> eps.tolist(), bool(accuracy[0] > accuracy[1] > accuracy[2])
    ([0.0, 0.05, 0.1], True)
    """
    X_given = X
    X, y = _checked_data(X, y)
    grid = _checked_eps(eps)
    focus = _checked_focus(focus_eps, grid)
    models, baseline_name = _checked_models(model, baseline)
    for one in models.values():
        check_feature_names(one, X_given)
    layouts = (image_layout(one, X.shape[1:], image_shape) for one in models.values())
    layout = next((layout for layout in layouts if layout), None)
    shape = image_shape if layout is None else layout.image_shape
    plan, norm = _plan(models, baseline_name, attacks, norm, clip, random_state, shape)
    if isinstance(corruptions, str):
        options = {} if clip is None else {"data_range": clip_range(clip)}
        first = next(iter(models.values()))
        corruptions = all_corruptions(first, X, image_shape=shape, random_state=random_state, **options)
    corruptions = [] if corruptions is None else checked_attacks(corruptions)
    witnesses = evenly_spread(len(X), _N_WITNESSES)
    finished = Checkpoint(checkpoint, (models, X, y, grid.tolist(), witnesses.tolist()))

    checks = checks and bool(grid.size)
    clean, clean_seconds = {}, {}
    for name, one in models.items():
        started = time.perf_counter()
        clean[name] = predicted_labels(one, X)
        clean_seconds[name] = time.perf_counter() - started
    # The bar counts passes of images, which take similar times, so that its estimate of the remaining time holds.
    n_correct = {name: int((labels == y).sum()) for name, labels in clean.items()}
    n_classes = len(np.unique(y))
    passes = {name: [passes_per_image(attack, n_classes) for attack in plan[name]] for name in models}
    total = sum(
        sum(passes[name]) * n_correct[name] * len(grid)
        + len(corruptions) * len(X)
        + checks * len(CHECKS) * _PASSES_OF_CHECK * min(len(X), _N_CHECKED)
        for name in models
    )
    trials, corrupted, verdicts = {}, {}, {}
    bar_options = {"unit": "pass", "unit_scale": True, "smoothing": 0, "disable": not verbose}
    with tqdm(total=total, desc="attacking", **bar_options) as progress:
        for name, one in models.items():
            trials[name] = []
            for attack, n_passes in zip(plan[name], passes[name], strict=True):

                def attacked(n_images, n_passes=n_passes, n_correct=n_correct[name]):
                    progress.total -= n_passes * (n_correct - n_images)  # images that had fallen
                    progress.update(n_passes * n_images)

                progress.set_postfix_str(f"{name}: {type(attack).__name__}", refresh=False)
                trial = finished.load(name, attack)
                if trial is None:
                    trial = run_trial(
                        name,
                        one,
                        X,
                        y,
                        attack,
                        grid,
                        clean=clean[name],
                        witnesses=witnesses,
                        on_step=attacked,
                    )
                    finished.save(name, attack, trial)
                else:  # took no time
                    progress.total -= n_passes * n_correct[name] * len(grid)
                trials[name].append(trial)
            corrupted[name] = []
            for corruption in corruptions:
                corrupted[name].append(_corruption_trial(one, X, y, corruption))
                progress.update(len(X))
        for name, one in models.items() if checks else ():
            progress.set_postfix_str(f"{name}: masking checks", refresh=False)
            correct = clean[name] == y
            at, broken = _checked_at(trials[name], correct)
            verdicts[name] = run_checks(
                one,
                X,
                y,
                correct,
                eps=grid[at],
                broken=broken,
                n_samples=_N_CHECKED,
                attacks=plan[name],
                baseline=None if name == baseline_name else models.get(baseline_name),
                image_shape=shape,
                norm=norm,
                clip=clip,
                random_state=random_state,
                on_step=lambda: progress.update(_PASSES_OF_CHECK * min(len(X), _N_CHECKED)),
            )

    examples = None
    if n_examples and layout is not None and grid.size:
        value_range = clip_range(clip) or (float(X.min()), float(X.max()))
        examples = collect_examples(
            models,
            trials,
            clean,
            X,
            y,
            witnesses,
            index=focus,
            layout=layout,
            n_examples=n_examples,
            value_range=value_range,
        )
    return RobustnessReport(
        models=tuple(models),
        baseline=baseline_name,
        norm=norm,
        eps=grid,
        y=y,
        clean=clean,
        clean_seconds=clean_seconds,
        trials=trials,
        corrupted=corrupted,
        examples=examples,
        checks=verdicts,
        confidence=confidence,
        focus_eps=float(grid[focus]) if grid.size else None,
        settings={
            "random_state": random_state,
            "clip": clip_range(clip),
            "models": {name: _described(one) for name, one in models.items()},
        },
        versions=_versions(),
    )


def _checked_data(X, y):
    options = {"dtype": (np.float64, np.float32), "order": "C", "allow_nd": True}
    X = check_array(X, input_name="X", estimator="robustness_report", **options)
    y = column_or_1d(y)
    check_consistent_length(X, y)
    return X, y


def _checked_eps(eps):
    values = np.atleast_1d(np.asarray(eps, dtype=float))
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"eps must be one or several finite numbers >= 0, got {eps!r}.")
    return np.unique(values[values > 0])


def _checked_focus(focus_eps, grid):
    """Position of the focus eps."""
    if focus_eps is None:
        return len(grid) // 2
    position = position_in_grid(focus_eps, grid)
    if position is None:
        raise ValueError(f"focus_eps={focus_eps!r} is not among the positive eps, {grid.tolist()}.")
    return position


def _checked_models(model, baseline):
    models = dict(model) if isinstance(model, dict) else {"model": model}
    if not models:
        raise ValueError("model is an empty dict; give at least one fitted classifier.")
    name = None
    if baseline is not None:
        if isinstance(baseline, dict):
            if len(baseline) != 1:
                raise ValueError(f"baseline takes one classifier, got {len(baseline)}: {list(baseline)}.")
            ((name, baseline),) = baseline.items()
        else:
            name = "baseline"
        if name in models:
            raise ValueError(f"baseline and model share the name {name!r}; give each its own.")
        models[name] = baseline
    return models, name


def _plan(models, baseline, attacks, norm, clip, random_state, image_shape):
    """The attacks of each model, and their norm."""
    if attacks is None or (isinstance(attacks, str) and attacks == "quick"):
        norm = norm or "linf"
        white_box = default_attacks(norm, clip=clip, random_state=random_state, thorough=attacks is None)
        black_box = black_box_attacks(norm, clip=clip, random_state=random_state, image_shape=image_shape)
        plan = {name: black_box if module_of(one) is None else white_box for name, one in models.items()}
        if baseline is not None and module_of(models[baseline]) is not None:
            from skrobust.attacks import Transfer

            for name, one in models.items():
                if not same_classes(one, models[baseline]):
                    raise ValueError(
                        f"{baseline} and {name} have different classes_. Attacks are transferred between them, so pass "
                        "a baseline fitted on the same labels, or choose attacks=."
                    )
            transfer = Transfer(white_box[-1], models[baseline], stop_at_success=True, source_name=baseline)
            plan = {name: own if name == baseline else [*own, transfer] for name, own in plan.items()}
        return plan, norm
    seeded = [_seeded(attack, random_state) for attack in checked_attacks(attacks)]
    for attack in seeded:
        if not is_adversary(attack):
            raise ValueError(f"{attack!r} is a corruption; pass it as corruptions=.")
        if getattr(attack, "perturb_all", False):
            raise ValueError(
                f"A report counts the worst case of each image, where misclassified images are already lost, but "
                f"{type(attack).__name__} has perturb_all=True. Set it to False, or evaluate the attack with "
                "robust_accuracy."
            )
        has_radius = bool({"eps", "attack__eps"} & set(attack.get_params()))
        if not has_radius or getattr(attack, "norm", None) not in ("linf", "l2", "l1"):
            raise TypeError(
                f"A report varies eps, but {type(attack).__name__} has no ball of radius eps in linf, l2 or l1. "
                "Evaluate it with robust_accuracy."
            )
    norms = {attack.norm for attack in seeded}
    if len(norms) > 1 or (norm is not None and norms != {norm}):
        raise ValueError(
            f"A report is about one norm, but norm={norm!r} and the attacks' norms are {sorted(norms)}. "
            "Make one report per norm."
        )
    return dict.fromkeys(models, seeded), norms.pop()


def _seeded(attack, random_state):
    params = attack.get_params(deep=False)
    if "random_state" in params and params["random_state"] is None:
        return clone(attack).set_params(random_state=random_state)
    return attack


def _checked_at(trials, correct):
    """Position of the eps for the checks, and the images that white-box attacks break there."""
    worst = np.logical_and.reduce([trial.right for trial in trials])
    # The largest of equally good eps: attacks that break the same few images at every eps are most suspicious there.
    at = len(worst) - 1 - int(np.argmin(np.abs(worst.mean(axis=1) - correct.mean() / 2)[::-1]))
    white = [trial.right[at] for trial in trials if trial.settings["threat_model"] == "white box"]
    return at, ~np.logical_and.reduce(white) if white else None


def _corruption_trial(model, X, y, corruption):
    started = time.perf_counter()
    right = predicted_labels(model, corruption.perturb(model, X, y)) == y
    return corruption.describe(), right, time.perf_counter() - started


def _described(model):
    """The model's repr in one line, without memory addresses, so that it is reproducible."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(repr(model).split()))


def _versions():
    versions = {"python": platform.python_version()}
    for package in ("skrobust", "numpy", "scipy", "scikit-learn", "torch", "PyWavelets", "scikit-image"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    return versions
