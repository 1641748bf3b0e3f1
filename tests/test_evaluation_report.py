"""The report: rows, refusals, output formats, and resuming after a stop."""

import json
import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skrobust.attacks import FGSM, JSMA, PGD, RandomNoise, Transfer
from skrobust.evaluation import Corruption
from skrobust.evaluation import robustness_report as report_with_checks


def robustness_report(*args, **params):
    """The report without masking checks, which have tests of their own."""
    return report_with_checks(*args, **{"checks": False, **params})


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small problems: on a busy machine more threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def model(digits):
    X, y = digits
    return LogisticRegression(C=0.05, max_iter=300).fit(X[:900], y[:900])


@pytest.fixture(scope="module")
def held_out(digits):
    X, y = digits
    return X[900:1020], y[900:1020]


def _same(X):
    return X


class Scripted(BaseEstimator):
    """Zeroes chosen images at chosen eps, and counts its calls."""

    threat_model = "white box"
    calls = 0

    def __init__(self, script, eps=0.1, norm="linf", clip=(0, 1), name="Scripted", random_state=None):
        self.script = script
        self.eps = eps
        self.norm = norm
        self.clip = clip
        self.name = name
        self.random_state = random_state

    def perturb(self, model, X, y):
        type(self).calls += 1
        return self.script(self.eps, X, y)

    def describe(self):
        return {"name": self.name, "threat_model": self.threat_model, "norm": self.norm, "eps": self.eps}


def test_binary_linear_curve_is_the_closed_form(digits):
    X, y = digits
    chosen = np.isin(y, [3, 7])
    X, y = X[chosen], y[chosen]
    linear = LogisticRegression(C=0.1).fit(X[:200], y[:200])
    X, y = X[200:], y[200:]
    grid = [0.0, 0.02, 0.05, 0.1, 0.2]
    report = robustness_report(linear, X, y, eps=grid, attacks=FGSM(clip=None), clip=None)
    margin = np.where(y == 7, 1, -1) * linear.decision_function(X)
    expected = [np.mean(margin - eps * np.abs(linear.coef_).sum() > 0) for eps in grid]
    eps, accuracy, low, high = report.curve("model")
    np.testing.assert_allclose(eps, grid)
    np.testing.assert_allclose(accuracy, expected)
    assert (low <= accuracy).all() and (accuracy <= high).all()


def test_images_broken_at_a_smaller_eps_stay_broken(model, held_out):
    X, y = held_out
    X, y = X[model.predict(X) == y][:30], y[model.predict(X) == y][:30]
    worst_class = model.predict(np.zeros((1, 64)))[0]

    def only_at(small):
        def script(eps, X, y):
            return np.zeros_like(X) if eps == small else X.copy()

        return script

    # Every image is within 1 of the zero image.
    attacks = [Scripted(only_at(1.0), name="a"), Scripted(only_at(1.1), name="b")]
    report = robustness_report(model, X, y, eps=[1.0, 1.1, 1.2], attacks=attacks)
    survive = (y == worst_class).mean()
    _, accuracy, _, _ = report.curve("model", attack=0)
    np.testing.assert_allclose(accuracy, [1, survive, survive, survive])
    _, accuracy, _, _ = report.curve("model", attack=1)
    np.testing.assert_allclose(accuracy, [1, 1, survive, survive])
    np.testing.assert_allclose(report.curve("model")[1], [1, survive, survive, survive])
    assert (report.worst_predicted("model")[2] == worst_class).all()


def test_worst_per_image_and_rows(model, held_out):
    X, y = held_out
    attacks = [RandomNoise(random_state=3), FGSM(), PGD(n_iter=5)]
    report = robustness_report(
        model, X, y, eps=[0.05, 0.15], attacks=attacks, corruptions=Corruption("shot_noise", 5), random_state=7
    )
    worst = report.worst_right("model")
    for trial in report.trials["model"]:
        assert (worst <= trial.right).all()
    np.testing.assert_array_equal(worst, np.logical_and.reduce([t.right for t in report.trials["model"]]))
    rows = report.rows
    assert len(rows) == 1 + 3 * 2 + 2 + 1
    keys = {"model", "attack", "threat_model", "norm", "eps", "accuracy", "ci_low", "ci_high", "clean_accuracy", "n"}
    for row in rows:
        assert keys <= set(row)
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"] and row["n"] == len(y)
        assert row["clean_accuracy"] == np.mean(model.predict(X) == y)
    by_attack = {(row["attack"], row["eps"]): row for row in rows}
    assert by_attack["RandomNoise", 0.05]["seed"] == 3 and by_attack["RandomNoise", 0.05]["threat_model"] == "black box"
    pgd = by_attack["PGD", 0.15]
    assert (pgd["n_iter"], pgd["n_restarts"], pgd["gradient"], pgd["seed"]) == (5, 1, "exact", 7)
    assert "loss='cross_entropy'" in pgd["settings"] and "step_size=None" in pgd["settings"]
    assert "eps" not in pgd["settings"] and "gradient" not in pgd["settings"]
    assert all(row["seconds"] > 0 for row in rows)
    assert by_attack["worst per image", 0.15]["threat_model"] == "white box"
    assert by_attack["none", 0.0]["accuracy"] == by_attack["none", 0.0]["clean_accuracy"]
    assert by_attack["shot noise, severity 5", None]["threat_model"] == "corruption"
    frame = report.to_frame()
    assert list(frame.columns)[:3] == ["model", "attack", "threat_model"] and len(frame) == len(rows)


def test_a_baseline_with_other_classes_is_refused_before_any_attack(model, digits, held_out):
    X, y = held_out
    few = y < 5
    other = clone(model).fit(X[few], y[few])
    with pytest.raises(ValueError, match="baseline fitted on the same labels"):
        robustness_report(model, X[:10], y[:10], eps=0.1, baseline=other)
    report = report_with_checks(model, X[:10], y[:10], eps=0.1, baseline=other, attacks=FGSM())
    assert any("other classes" in verdict.evidence for verdict in report.checks["model"])  # transfer does not apply


def test_default_attacks_with_a_baseline(model, digits, held_out):
    X, y = digits
    strong = LogisticRegression(C=0.005, max_iter=300).fit(X[:900], y[:900])
    X, y = held_out
    report = robustness_report({"strong": strong}, X[:60], y[:60], eps=0.1, baseline={"plain": model})
    names = [trial.name for trial in report.trials["strong"]]
    assert names[-1] == "PGD on plain, margin loss"
    assert report.trials["strong"][-1].settings["threat_model"] == "transfer"
    assert [trial.name for trial in report.trials["plain"]] == names[:-1]
    # An attack made on another model is no stronger than those made on the model itself.
    own = np.logical_and.reduce([trial.right for trial in report.trials["strong"][:-1]])
    assert own.mean() <= report.trials["strong"][-1].right.mean()
    sentence, overall = report.conclusions()
    difference, low, high = report.compare("strong", "plain", 0.1)
    verb = "is better than" if low > 0 else "is worse than" if high < 0 else "is no better than"
    assert verb in sentence and "“strong”" in sentence and "n = 60" in sentence
    verdicts = []
    for eps in (0, 0.1):
        difference, low, high = report.compare("strong", "plain", eps)
        verdicts.append("better" if low > 0 else "worse" if high < 0 else "no difference that these images could show")
    groups = [f"{verdicts[0]} at eps = 0", f"{verdicts[1]} at eps = 0.1"]
    groups = [f"{verdicts[0]} at eps = 0 and 0.1"] if verdicts[0] == verdicts[1] else groups
    assert all(group in overall for group in groups)


def test_conclusions_follow_the_interval(model, held_out):
    X, y = held_out
    X, y = X[model.predict(X) == y], y[model.predict(X) == y]

    class Weak(LogisticRegression):
        def predict(self, X):
            return np.where(X[:, 0] > 0.5, -1, model.predict(X))

    def mark(eps, X, y):
        return np.where(np.arange(64) == 0, 1.0, X)

    weak = Weak().fit(X, y)
    report = robustness_report({"good": model}, X, y, eps=1, attacks=Scripted(mark), baseline={"weak": weak})
    assert "is better than" in report.conclusions()[0]
    report = robustness_report({"weak": weak}, X, y, eps=1, attacks=Scripted(mark), baseline={"good": model})
    assert "is worse than" in report.conclusions()[0]
    report = robustness_report({"twin": model}, X, y, eps=1, attacks=Scripted(mark), baseline={"good": model})
    assert "no better than" in report.conclusions()[0]


def test_models_without_gradients_get_black_box_attacks(digits, held_out):
    X, y = digits
    forest = RandomForestClassifier(10, random_state=0).fit(X[:900], y[:900])
    X, y = held_out
    report = robustness_report(forest, X[:60], y[:60], eps=0.15)
    threat_models = {trial.settings["threat_model"] for trial in report.trials["model"]}
    assert threat_models == {"black box"}
    assert [trial.name for trial in report.trials["model"]] == ["RandomNoise", "Square"]
    noise, square = report.trials["model"]
    assert square.right.mean() < noise.right.mean() < report.clean_right("model").mean()
    assert square.settings["image_shape"] == (8, 8)
    assert "black box" in report.summary()
    in_l1 = robustness_report(forest, X[:20], y[:20], eps=5.0, norm="l1")
    assert [trial.name for trial in in_l1.trials["model"]] == ["RandomNoise"]


def test_transfer_to_a_model_without_gradients(model, digits, held_out):
    X, y = digits
    forest = RandomForestClassifier(10, random_state=0).fit(X[:900], y[:900])
    X, y = held_out
    report = robustness_report({"forest": forest}, X[:20], y[:20], eps=0.2, baseline={"linear": model})
    assert [trial.settings["threat_model"] for trial in report.trials["forest"]] == ["black box"] * 2 + ["transfer"]
    assert "white box" in {trial.settings["threat_model"] for trial in report.trials["linear"]}


@pytest.mark.parametrize("layout", ["float32", "images", "list", "strings"])
def test_layouts_and_labels(digits, layout):
    X, y = digits
    if layout == "float32":
        X = X.astype(np.float32)
    if layout == "strings":
        y = np.array([f"digit {label}" for label in y], dtype=object)
    classifier = LogisticRegression(C=0.05, max_iter=300).fit(X[:500], y[:500])
    X, y = X[500:540], y[500:540]
    if layout == "list":
        X, y = X.tolist(), y.tolist()
    if layout == "images":
        import torch

        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10).double())
        network[1].weight.data = torch.as_tensor(classifier.coef_)
        network[1].bias.data = torch.as_tensor(classifier.intercept_)
        flat = robustness_report(classifier, X, y, eps=0.1, attacks=FGSM())
        report = robustness_report(network, X.reshape(-1, 8, 8), y, eps=0.1, attacks=FGSM())
        np.testing.assert_array_equal(report.worst_right("model"), flat.worst_right("model"))
        return
    report = robustness_report(classifier, X, y, eps=0.1, attacks=FGSM())
    assert report.curve("model")[1][1] < report.curve("model")[1][0]
    json.loads(report.to_json())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda eps, X, y: np.clip(X + 2 * eps, 0, 1), r"Scripted left its ball: an image moved by 0\.2 in linf"),
        (lambda eps, X, y: X + eps, r"Scripted left its box: clip=\(0, 1\)"),
        (lambda eps, X, y: X[:, :5], "returned shape"),
        (lambda eps, X, y: X * np.nan, "NaN or infinity"),
    ],
)
def test_attacks_that_cheat_are_refused(model, held_out, script, message):
    X, y = held_out
    with pytest.raises(ValueError, match=message):
        robustness_report(model, X, y, eps=0.1, attacks=Scripted(script))


def test_a_transfer_among_the_attacks(model, digits, held_out):
    X, y = digits
    source = LogisticRegression(C=0.005, max_iter=300).fit(X[:900], y[:900])
    X, y = held_out
    report = robustness_report(model, X[:60], y[:60], eps=[0.1, 0.2], attacks=Transfer(FGSM(), source), checks=False)
    broken = model.predict(Transfer(FGSM(0.2), source).perturb(model, X[:60], y[:60])) != y[:60]
    assert not (report.worst_right("model")[1] & broken).any()


def test_errors(model, held_out):
    X, y = held_out
    with pytest.raises(ValueError, match="eps must be one or several finite numbers >= 0"):
        robustness_report(model, X, y, eps=[-0.1])
    with pytest.raises(ValueError, match="about one norm"):
        robustness_report(model, X, y, eps=0.1, attacks=[FGSM(), FGSM(norm="l2")])
    with pytest.raises(ValueError, match="is a corruption; pass it as corruptions="):
        robustness_report(model, X, y, eps=0.1, attacks=Corruption())
    with pytest.raises(TypeError, match="A report varies eps, but JSMA has no ball"):
        robustness_report(model, X, y, eps=0.1, attacks=JSMA())
    with pytest.raises(ValueError, match="share the name 'model'"):
        robustness_report(model, X, y, eps=0.1, baseline={"model": model})
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        robustness_report(model, X, y[:-1], eps=0.1)
    with pytest.raises(ValueError, match=r"focus_eps=0\.2 is not among the positive eps, \[0\.1\]"):
        robustness_report(model, X, y, eps=0.1, focus_eps=0.2)
    with pytest.raises(ValueError, match="The 'norm' parameter"):
        robustness_report(model, X, y, eps=0.1, norm="l3")
    report = robustness_report(model, X, y, eps=0.1, attacks=FGSM())
    with pytest.raises(ValueError, match=r"eps=0\.2 is not in the report"):
        report.index_of(0.2)
    with pytest.raises(ValueError, match="no model 'other'"):
        report.clean_right("other")


def test_print_shows_corruptions(model, held_out):
    X, y = held_out
    report = robustness_report(
        {"one": model, "two": model}, X, y, eps=0.1, attacks=FGSM(), corruptions="all", checks=False
    )
    printed = str(report).replace("\N{NO-BREAK SPACE}", " ")
    assert len(report.corrupted["one"]) == 13 and "saturate" not in printed  # the images are grey
    for row in report.rows:
        if row["threat_model"] == "corruption":
            assert re.search(rf"{row['model']} .*{100 * row['accuracy']:.1f} % .*{row['attack']} +{len(y)} +0", printed)
    for name in ("one", "two"):
        mean = np.mean([right.mean() for _, right, _ in report.corrupted[name]])
        assert re.search(rf"{name} .*{100 * mean:.1f} % .*mean of 13", printed)
    plain = robustness_report(model, X, y, eps=0.1, attacks=FGSM(), checks=False)
    assert str(plain) == plain.summary()
    with pytest.raises(ValueError, match="X must lie within data_range"):
        robustness_report(model, 2 * X, y, eps=0.1, attacks=FGSM(clip=None), corruptions="all", checks=False)


def test_json_and_html_hold_everything_and_need_nothing(model, held_out, tmp_path):
    X, y = held_out
    noises = [Corruption("shot_noise", severity, random_state=0) for severity in (1, 5)]
    params = {"attacks": [FGSM(), PGD(n_iter=3)], "corruptions": noises}
    report = robustness_report({"<b>mine</b>": model}, X, y, eps=[0.05, 0.1], **params)
    content = json.loads(report.to_json())
    assert content["eps"] == [0.0, 0.05, 0.1] and content["n"] == len(y)
    assert content["rows"][0]["accuracy"] == report.curve("<b>mine</b>")[1][0]
    assert {"python", "skrobust", "torch"} <= set(content["versions"])
    path = report.to_html(tmp_path / "report.html")
    html = path.read_text(encoding="utf-8")
    assert "<b>mine</b>" not in html and "&lt;b&gt;mine&lt;/b&gt;" in html
    addresses = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", html)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert "<script" not in html and "<link" not in html and "@import" not in html
    for row in report.rows:
        assert f"{100 * row['accuracy']:.1f}" in html
    assert html.count("data:image/png") == 2 * 8  # clean and attacked
    assert "Corrupted images" in html and html.count("shot noise, severity 5") == 2  # its table, and every attack's
    assert report.to_html() == html  # the same report, the same bytes
    assert "Corrupted images" not in robustness_report(model, X, y, eps=0.1, attacks=FGSM()).to_html()


def test_settings_do_not_hold_addresses(model, held_out):
    X, y = held_out
    pipeline = make_pipeline(FunctionTransformer(_same), model).fit(X, y)
    report = robustness_report(pipeline, X, y, eps=0.1, attacks=FGSM(), image_shape=(8, 8))
    text = report.settings["models"]["model"]
    assert "_same" in text and "0x" not in text and "\n" not in text


def test_files_are_written_whole_or_not_at_all(model, held_out, tmp_path, monkeypatch):
    X, y = held_out
    report = robustness_report(model, X, y, eps=0.1, attacks=FGSM())
    target = tmp_path / "report.json"
    target.write_text("before")

    import os

    def fails(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fails)
        with pytest.raises(KeyboardInterrupt):
            report.to_json(target)
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]
    report.to_json(target)
    assert json.loads(target.read_text())["n"] == len(y)
    with pytest.raises(FileNotFoundError, match="does not exist. Create it first"):
        report.to_json(tmp_path / "nowhere" / "x.json")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        report.to_html(tmp_path)


def test_a_stopped_report_resumes(model, held_out, tmp_path):
    X, y = held_out
    checkpoint = tmp_path / "progress.npz"
    stop = []

    def darken(eps, X, y):
        return np.maximum(X - eps, 0)

    def interrupted(eps, X, y):
        if not stop:
            stop.append(True)
            raise KeyboardInterrupt
        return np.minimum(X + eps, 1)

    class First(Scripted):
        calls = 0

    class Second(Scripted):
        calls = 0

    attacks = [First(darken, name="first"), Second(interrupted, name="second")]
    params = {"eps": [0.2, 0.4], "attacks": attacks, "checkpoint": checkpoint}
    with pytest.raises(KeyboardInterrupt):
        robustness_report(model, X, y, **params)
    assert checkpoint.exists() and First.calls == 2
    resumed = robustness_report(model, X, y, **params)
    assert First.calls == 2  # not run again
    whole = robustness_report(model, X, y, **{**params, "checkpoint": None})
    np.testing.assert_array_equal(resumed.worst_right("model"), whole.worst_right("model"))
    np.testing.assert_array_equal(resumed.worst_predicted("model"), whole.worst_predicted("model"))
    drop = ("seconds",)
    for a, b in zip(resumed.rows, whole.rows, strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}
    assert resumed.examples.clean.shape == whole.examples.clean.shape
    np.testing.assert_array_equal(resumed.examples.views[0].attacked, whole.examples.views[0].attacked)
    with pytest.raises(ValueError, match="belongs to other models, images or eps"):
        robustness_report(model, X[:-1], y[:-1], **params)
    checkpoint.write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        robustness_report(model, X, y, **params)


def test_checkpoint_keeps_string_labels(digits, tmp_path):
    X, y = digits
    y = np.array([f"digit {label}" for label in y], dtype=object)
    classifier = LogisticRegression(C=0.05, max_iter=300).fit(X[:500], y[:500])
    params = {"eps": 0.1, "attacks": FGSM(), "checkpoint": tmp_path / "kept.npz"}
    first = robustness_report(classifier, X[500:540], y[500:540], **params)
    again = robustness_report(classifier, X[500:540], y[500:540], **params)
    np.testing.assert_array_equal(first.worst_predicted("model"), again.worst_predicted("model"))


def test_networks_with_their_channels_first_are_reported_without_a_gallery(held_out):
    import torch

    X, y = held_out
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
    report = robustness_report(net.double(), X[:10].reshape(-1, 1, 8, 8), y[:10], eps=0.1, attacks=FGSM(), checks=True)
    assert report.examples is None and len(report.checks["model"]) > 5
