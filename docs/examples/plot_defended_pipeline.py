"""
A defended Pipeline, attacked
=============================

A wavelet front end before a linear SVM, its sparsity chosen for accuracy *under attack*, and attacked white box,
through the whole Pipeline. Beside it the same SVM without a front end, tuned just as hard.
"""

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import WaveletSparsifier
from skrobust.attacks import PGD
from skrobust.datasets import load_dataset
from skrobust.evaluation import PerturbationGalleryDisplay, make_robust_scorer, robustness_report

X_train, y_train = load_dataset("digits", split="train", return_X_y=True)
X_test, y_test = load_dataset("digits", split="test", return_X_y=True)

# %%
# Both are tuned by the same scorer, accuracy under a white-box PGD attack, over the same strengths of regularisation:
# a front end before a classifier that was not tuned would be blamed for its classifier, or praised for it.
scorer = make_robust_scorer(PGD(eps=0.1, n_iter=10, loss="margin", random_state=0))
front_end = WaveletSparsifier("haar", clip=(0, 1), image_shape=(8, 8))
strengths = {"linearsvc__C": [0.003, 0.01, 0.03, 0.1]}
fractions = {"waveletsparsifier__n_nonzero_coefs": [0.3, 0.5, 0.8], "waveletsparsifier__level": [1, 2, 3]}
defended = GridSearchCV(
    make_pipeline(front_end, LinearSVC()), {**strengths, **fractions}, scoring=scorer, cv=3
).fit(X_train, y_train)
undefended = GridSearchCV(make_pipeline(LinearSVC()), strengths, scoring=scorer, cv=3).fit(X_train, y_train)
print(defended.best_params_, undefended.best_params_)

# %%
# The report attacks both with the default suite and keeps, for each image, the most harmful of all attacks.
report = robustness_report(
    defended.best_estimator_,
    X_test[:100],
    y_test[:100],
    eps=[0.05, 0.1, 0.15],
    baseline=undefended.best_estimator_,
    random_state=0,
)
print(*report.conclusions(), sep="\n")
report.plot()

# %%
# What the attack does to the images, and what the front end makes of them.
PerturbationGalleryDisplay.from_estimator(
    defended.best_estimator_, X_test[:100], y_test[:100], attack=PGD(eps=0.15, random_state=0)
)
