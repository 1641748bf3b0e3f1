"""The demo's experiment: load, tune under attack, attack, and print the results."""

from contextlib import contextmanager

import numpy as np

from skrobust.signals import kernel_threads, one_blas_thread

from .errors import UsageError
from .proved import bounds_table, prove, what_helped
from .recipes import RECIPES, UNDEFENDED, candidates

_N_FOLDS = 3
_PARAMETERS_AS_OPTIONS = (
    "For this command, data_home is --data-home DIR, download=True is --download and verify=False is --no-verify."
)
_N_SCORED = 200  # images attacked per fold during tuning


def run_experiment(arguments):
    """Run the demo's experiment and print its progress; returns the report, the certified images (a `Proved`), and
    lines of tables and conclusions.
    """
    recipe = RECIPES[arguments.dataset]
    eps = sorted(arguments.eps or recipe.eps)
    tune_eps = arguments.tune_eps or (recipe.tune_eps if recipe.tune_eps in eps else eps[(len(eps) - 1) // 2])
    if tune_eps not in eps:
        raise UsageError(f"--tune-eps {tune_eps:g} is not among the radii of the report: {_listed(eps)}.")
    train, test = _load(arguments, recipe)
    size = " × ".join(str(n) for n in train.image_shape)
    print(
        f"{arguments.dataset}: {len(train.target)} training and {len(test.target)} test images of {size}, "
        f"{len(train.target_names)} classes, pixels 0 to 1"
    )

    with _one_thread():
        return _tune_and_attack(arguments, recipe, eps, tune_eps, train, test)


@contextmanager
def _one_thread():
    """Limit the threads of kernels, BLAS and torch, because such small problems gain nothing from more."""
    import torch

    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with kernel_threads(1), one_blas_thread():
            yield
    finally:
        torch.set_num_threads(torch_threads)


def _tune_and_attack(arguments, recipe, eps, tune_eps, train, test):
    from skrobust.evaluation import robustness_report

    searches = _tuned(train, recipe, tune_eps, arguments)
    n_settings = max(len(search.cv_results_["params"]) for search in searches.values())
    print(f"tuned for accuracy under attack at eps = {tune_eps:.4g}, {n_settings} settings × {_N_FOLDS} folds each:")
    width = max(map(len, searches))
    for name, search in searches.items():
        chosen = ", ".join(f"{key.split('__')[1]} = {_short(value)}" for key, value in search.best_params_.items())
        print(f"  {name:<{width}}  {chosen}")
    models = {name: search.best_estimator_ for name, search in searches.items()}
    report = robustness_report(
        {name: model for name, model in models.items() if name != UNDEFENDED},
        test.data,
        test.target,
        eps=eps,
        attacks="quick",
        baseline={UNDEFENDED: models[UNDEFENDED]},
        focus_eps=tune_eps,
        image_shape=train.image_shape,
        random_state=arguments.seed,
        verbose=not arguments.quiet,
    )
    report.settings |= {
        "data": f"{arguments.dataset}: {len(train.target)} training, {len(test.target)} test images"
        + ", not verified" * arguments.no_verify,
        "tuned for": f"accuracy under attack at eps = {tune_eps:.4g}, {_N_FOLDS} folds, {n_settings} settings each",
    }
    proved = prove(models, test.data, test.target, eps)
    report.settings |= proved.texts(report)
    signs = [f"signs of masking in {line}" for line in report.warnings()]
    tables = [report.summary(), "", "Certified accuracy beside accuracy under attack:", bounds_table(report, proved)]
    lines = ["", *tables, "", *report.conclusions(), *signs, "", *what_helped(report, proved, tune_eps)]
    return report, proved, lines


def _load(arguments, recipe):
    """Training and test images, as many as given by the recipe or the user, stratified by class."""
    from skrobust.datasets import DatasetFileError, DatasetNotFoundError, load_dataset

    parts = []
    sizes = {"train": arguments.n_train or recipe.n_train, "test": arguments.n_test or recipe.n_test}
    for split, n_images in sizes.items():
        try:
            part = load_dataset(
                arguments.dataset,
                split=split,
                data_home=arguments.data_home,
                dtype="float64",
                verify=not arguments.no_verify,
                download=arguments.download,
            )
        except (DatasetNotFoundError, DatasetFileError) as error:
            raise UsageError(f"{error}\n{_PARAMETERS_AS_OPTIONS}") from error
        index = _stratified(part.target, n_images, arguments.seed)
        part.data, part.target = part.data[index], part.target[index]
        parts.append(part)
    return parts


def _stratified(labels, n_images, seed):
    """Index of `n_images` images, None for all, with the classes in their proportions."""
    from sklearn.model_selection import train_test_split

    if n_images is None or n_images >= len(labels):
        return np.arange(len(labels))
    index, _ = train_test_split(np.arange(len(labels)), train_size=n_images, stratify=labels, random_state=seed)
    return np.sort(index)


def _tuned(train, recipe, tune_eps, arguments):
    """One finished search per model, all with the same folds and the same attack."""
    from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
    from tqdm import tqdm

    from skrobust.attacks import PGD, WhiteBox
    from skrobust.evaluation import make_robust_scorer

    seed = arguments.seed
    attack = [
        WhiteBox(eps=tune_eps, random_state=seed),
        PGD(eps=tune_eps, n_iter=10, loss="margin", gradient="worst", random_state=seed),
    ]
    scorer = make_robust_scorer(attack, max_samples=_N_SCORED)
    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=seed)
    plan = candidates(train.image_shape, recipe, seed)
    total = sum(len(ParameterGrid(grid)) for _, grid in plan.values()) * _N_FOLDS
    searches = {}
    with tqdm(total=total, desc="tuning", unit="fit", disable=arguments.quiet) as progress:
        for name, (pipeline, grid) in plan.items():
            progress.set_postfix_str(name, refresh=False)

            def score(estimator, X, y):
                value = scorer(estimator, X, y)
                progress.update()
                return value

            search = GridSearchCV(pipeline, grid, scoring=score, cv=folds, error_score="raise")
            searches[name] = search.fit(train.data, train.target)
    return searches


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _listed(values):
    return ", ".join(f"{value:.4g}" for value in values)
