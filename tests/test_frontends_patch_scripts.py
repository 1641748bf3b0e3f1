"""The scripts of the patch denoiser run end to end in their quick form, on images that come with the libraries."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def _run(name, *arguments):
    script = [sys.executable, str(BENCHMARKS / "reproduce" / name), "--quick", *map(str, arguments)]
    done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_denoising_dictionary(tmp_path):
    pytest.importorskip("skorch")
    output = tmp_path / "paper.json"
    printed = _run("denoising_dictionary.py", "--networks", "MLP", "--models", tmp_path, "--output", output)
    assert printed.count("| MLP | 8 |") == 3  # FGSM and JSMA transferred, and the white box
    content = json.loads(output.read_text())
    for row in content["networks"]["MLP"]["atoms"].values():
        fgsm = row["transfer"]["FGSM"]
        assert fgsm["restored"] > fgsm["perturbed"]
        assert row["white_box"]["FGSM"]["accuracy"] <= fgsm["restored"] + 0.1
        assert row["white_box"]["PGD"]["threat_model"] == "white box"
    assert output.with_suffix(".png").stat().st_size > 5_000


def test_natural_images(tmp_path):
    pytest.importorskip("spams")
    output = tmp_path / "natural.json"
    printed = _run("denoise_natural_images.py", "--output", output, "--figure", tmp_path / "natural.png")
    assert printed.count("| 25 |") == 2
    content = json.loads(output.read_text())
    assert content["verdict"]["largest_difference_to_reference_db"] < 0.2
    for row in content["rows"]:
        assert row["quality"]["K-SVD"]["psnr"] > row["quality"]["noisy"]["psnr"] + 3
    assert np.isfinite(content["verdict"]["mean_psnr"]["K-SVD"])
    assert (tmp_path / "natural.png").stat().st_size > 10_000
