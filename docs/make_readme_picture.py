"""Draw docs/images/attacked_and_restored.png: ``python docs/make_readme_picture.py``, some seconds."""

import pathlib

import matplotlib

matplotlib.use("Agg")

from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import WaveletSparsifier
from skrobust.attacks import PGD
from skrobust.datasets import load_dataset
from skrobust.evaluation import PerturbationGalleryDisplay

X_train, y_train = load_dataset("digits", split="train", return_X_y=True)
X_test, y_test = load_dataset("digits", split="test", return_X_y=True)
front_end = WaveletSparsifier("haar", n_nonzero_coefs=0.5, level=1, clip=(0, 1), image_shape=(8, 8))
defended = make_pipeline(front_end, LinearSVC(C=0.1)).fit(X_train, y_train)
display = PerturbationGalleryDisplay.from_estimator(
    defended, X_test[:100], y_test[:100], attack=PGD(eps=0.15, random_state=0), n_examples=8
)
path = pathlib.Path(__file__).parent / "images" / "attacked_and_restored.png"
display.figure_.savefig(path, dpi=110)
print(f"Wrote {path}")
