"""The script on planted layers: its quick form, and the theorems' formulas by hand."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduce" / "planted_layers.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("planted_layers", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_quick_form(tmp_path):
    params = [sys.executable, str(SCRIPT), "--quick", "--output", str(tmp_path)]
    done = subprocess.run(params, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr[-3000:]
    parts = json.loads((tmp_path / "planted_layers.json").read_text())["parts"]
    assert set(parts) == {"theorems", "recovery", "complete", "overcomplete"}
    for row in parts["theorems"]["rows"]:
        assert all(
            layer["largest_error"] <= layer["promised"] and layer["within_support"] == 1 for layer in row["L-BP"]
        )
    # With one layer, basis pursuit and the projection solve the same problem.
    first = parts["complete"]["rows"][0]
    assert first["L-BP"]["errors"] == pytest.approx(first["projection"]["errors"], rel=1e-9)
    assert (tmp_path / "planted_layers.png").stat().st_size > 10_000


def test_theorems_by_hand(script):
    assert script.basis_pursuit_limit(0.25) == pytest.approx(5 / 3)
    np.testing.assert_allclose(script.basis_pursuit_errors(0.01, [4, 9]), [0.01, 0.15, 0.15 * 22.5])
    # Two coefficients of 1, coherence 0.1: C = 0.1, K = 0.2; a threshold in (0.25, 0.85).
    thresholds, errors = script.thresholding_errors(0.05, [np.array([1.0, 0.0, -1.0])], [0.1])
    assert 0.25 < thresholds[0] < 0.26
    assert errors[1] == pytest.approx(np.sqrt(2) * (0.05 + 0.1 + thresholds[0]))
    assert script.thresholding_errors(0.05, [np.array([1.0, 0.3])], [0.1]) == ([], [0.05])


def test_planted_dictionaries_have_the_stated_coherence(script):
    rng = np.random.default_rng(0)
    for D, coherence in (
        (script.two_bases(16), 1 / 4),
        (script.private_and_shared(24, 8, 0.9, rng), 0.19),
        (script.few_rows(32, 40, 3, rng), 1 / 3),
    ):
        gram = np.abs(D.T @ D)
        np.testing.assert_allclose(np.diag(gram), 1)
        assert (gram - np.eye(len(gram))).max() == pytest.approx(coherence)
    D = script.grouped(3, 4, 5, rng)
    np.testing.assert_allclose(np.linalg.norm(D, axis=0), 1)
    assert ((D != 0).sum(axis=0) == 2).all() and not D[:4, 5:].any()
    clean, codes = script.plant([np.eye(2), np.array([[1.0], [2.0]])], np.array([[3.0]]))
    assert clean.tolist() == [[3.0, 6.0]] and [c.tolist() for c in codes] == [[[3.0, 6.0]], [[3.0]]]
