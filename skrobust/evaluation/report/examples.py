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
        Mean PSNR and SSIM over all witnesses, a model's attacked and restored images.
    """

    eps: float
    norm: str
    clean: np.ndarray
    truth: np.ndarray
    value_range: tuple
    views: list
    quality: list = field(default_factory=list)

    def rows(self):
        """Rows of a gallery: label, model (None for clean images), images, predictions (of clean images the labels)."""
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


def collect_examples(models, trials, clean_answers, X, y, witnesses, *, index, layout, n_examples, value_range):
    """Choose the example images of a report, at the eps of position `index`.

    Witnesses are spread evenly over X; the first ones that every model classifies correctly without attack are shown,
    regardless of the success of the attacks. None if there is no such image, or no attack.
    """
    if not all(trials[name] for name in models):
        return None
    easy = np.logical_and.reduce([clean_answers[name][witnesses] == y[witnesses] for name in models])
    shown = np.flatnonzero(easy)[:n_examples]
    if not shown.size:
        return None
    span = float(value_range[1] - value_range[0])
    clean = X[witnesses]
    views, quality = [], []
    for name, model in models.items():
        attacked, attacks = _most_harmful(trials[name], index, witnesses, y)
        cleaned = restored(model, attacked)
        for what, images in (("attacked", attacked), ("restored", cleaned)):
            if images is not None:
                quality.append(_mean_quality(name, what, clean, images, layout, span))
        views.append(
            View(
                model=name,
                attacked=as_images(attacked[shown], layout),
                restored=None if cleaned is None else as_images(cleaned[shown], layout),
                predicted_clean=clean_answers[name][witnesses][shown],
                predicted=predicted_labels(model, attacked[shown]),
                attacks=[attacks[place] for place in shown],
            )
        )
    trial = trials[next(iter(models))][0]
    return Examples(
        eps=float(trial.eps[index]),
        norm=trial.settings.get("norm") or "linf",
        clean=as_images(clean[shown], layout),
        truth=y[witnesses][shown],
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
        for place in np.flatnonzero(broken):
            names[place] = trial.name
        pending &= ~broken
    return images, names


def _mean_quality(name, what, clean, images, layout, span):
    psnr, ssim = image_quality(clean, images, layout, span)
    finite = psnr[np.isfinite(psnr)]
    return {
        "model": name,
        "images": what,
        "psnr": float(finite.mean()) if finite.size else None,
        "ssim": float(np.nanmean(ssim)) if np.isfinite(ssim).any() else None,
        "n": len(images),
    }
