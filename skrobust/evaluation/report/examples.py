"""Example images of a report: clean, attacked and restored, with predictions."""

from dataclasses import dataclass, field

import numpy as np

from skrobust.evaluation.scoring.robust import predicted_labels

from .images import as_images, image_quality, restored


@dataclass
class Examples:
    """Images for galleries.

    Attributes
    ----------
    eps : float
    norm : str
    clean : ndarray of shape (n_shown, height, width[, 3])
    truth : ndarray of shape (n_shown,)
    value_range : (float, float)
        Black and white.
    views : list of View
        One per model.
    quality : list of dict
        Mean PSNR and SSIM over all witnesses, for the attacked and the restored images of each model.
    """

    eps: float
    norm: str
    clean: np.ndarray
    truth: np.ndarray
    value_range: tuple
    views: list
    quality: list = field(default_factory=list)

    def rows(self):
        """Rows of a gallery: label, model (None for clean images), images, predictions (labels for clean images)."""
        yield "clean", None, self.clean, self.truth
        for view in self.views:
            yield f"attacked:\n{view.model}", view.model, view.attacked, view.predicted
            if view.restored is not None:
                yield "restored by\nits front end", view.model, view.restored, view.predicted


@dataclass
class View:
    """The images and predictions of one model in a gallery.

    Attributes
    ----------
    model : str
    attacked : ndarray of the shape of ``Examples.clean``
    restored : ndarray of the same shape, or None
        Output of the model's front ends for the attacked images.
    predicted_clean, predicted : ndarray of shape (n_shown,)
        Predictions for the clean and the attacked images.
    attacks : list of str
        The attack that produced each image.
    """

    model: str
    attacked: np.ndarray
    restored: np.ndarray | None
    predicted_clean: np.ndarray
    predicted: np.ndarray
    attacks: list


def collect_examples(models, trials, clean_predicted, X, y, witnesses, *, index, layout, n_examples, value_range):
    """Choose the example images of a report, at the eps of position `index`.

    Witnesses are spread evenly over X; the first ones that every model classifies correctly without attack are shown,
    regardless of the success of the attacks. None if there is no such image, or no attack.
    """
    if not all(trials[name] for name in models):
        return None
    correct = np.logical_and.reduce([clean_predicted[name][witnesses] == y[witnesses] for name in models])
    selected = np.flatnonzero(correct)[:n_examples]
    if not selected.size:
        return None
    span = float(value_range[1] - value_range[0])
    clean = X[witnesses]
    views, quality = [], []
    for name, model in models.items():
        attacked, attacks = _most_harmful(trials[name], index, witnesses, y)
        cleaned = restored(model, attacked)
        for kind, images in (("attacked", attacked), ("restored", cleaned)):
            if images is not None:
                quality.append(_mean_quality(name, kind, clean, images, layout, span))
        views.append(
            View(
                model=name,
                attacked=as_images(attacked[selected], layout),
                restored=None if cleaned is None else as_images(cleaned[selected], layout),
                predicted_clean=clean_predicted[name][witnesses][selected],
                predicted=predicted_labels(model, attacked[selected]),
                attacks=[attacks[k] for k in selected],
            )
        )
    trial = trials[next(iter(models))][0]
    return Examples(
        eps=float(trial.eps[index]),
        norm=trial.settings.get("norm") or "linf",
        clean=as_images(clean[selected], layout),
        truth=y[witnesses][selected],
        value_range=tuple(value_range),
        views=views,
        quality=quality,
    )


def _most_harmful(trials, index, witnesses, y):
    """For each witness, the image of the first attack that breaks it, else that of the strongest attack."""
    strongest = min(trials, key=lambda trial: trial.right[index].mean())
    images = strongest.witnesses[index].copy()
    names = [strongest.name] * len(witnesses)
    pending = strongest.right[index][witnesses]
    for trial in trials:
        broken = pending & ~trial.right[index][witnesses]
        images[broken] = trial.witnesses[index][broken]
        for k in np.flatnonzero(broken):
            names[k] = trial.name
        pending &= ~broken
    return images, names


def _mean_quality(name, kind, clean, images, layout, span):
    psnr, ssim = image_quality(clean, images, layout, span)
    finite = psnr[np.isfinite(psnr)]
    return {
        "model": name,
        "images": kind,
        "psnr": float(finite.mean()) if finite.size else None,
        "ssim": float(np.nanmean(ssim)) if np.isfinite(ssim).any() else None,
        "n": len(images),
    }
