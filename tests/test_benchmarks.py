"""The reproduction scripts run end to end in their quick form, on images that come with the library."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduce"


def _run(name, *arguments):
    script = [sys.executable, str(SCRIPTS / name), "--quick", *map(str, arguments)]
    done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_corruption_table(tmp_path):
    output, page = tmp_path / "table.json", tmp_path / "table.md"
    page.write_text("| gaussian noise | of an earlier run |\n\n## Discussion\n\n- Written by hand.\n")
    _run("corruption_table_cifar10.py", "--output", output, "--page", page)
    content = json.loads(output.read_text())
    assert content["n_test"] == 40
    assert {row["severity"] for row in content["rows"]} == {1, 5}
    assert page.read_text().count("gaussian noise") == 2
    assert page.read_text().endswith("|\n\n## Discussion\n\n- Written by hand.\n")


@pytest.mark.slow
def test_three_scores(tmp_path):
    printed = _run("three_scores_mnist.py", "--output", tmp_path)
    content = json.loads((tmp_path / "three_scores_mnist.json").read_text())
    assert content["trade_off"].startswith("TradeOff(") and "Signs of masking" in printed
    front_end, undefended = content["searches"].values()
    assert front_end["n_settings"] == undefended["n_settings"] == len(front_end["candidates"])
    assert front_end["scoring"] == undefended["scoring"] and front_end["n_jobs"] == 2
    for search in (front_end, undefended):
        admitted = [c["robust"] + c["corrupted"] for c in search["candidates"] if c["clean"] >= 0.7]
        assert search["cross_validated"]["robust"] + search["cross_validated"]["corrupted"] == max(admitted)
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".json", ".png"}


@pytest.mark.slow
def test_time_of_a_report(tmp_path):
    printed = _run("../bench_report.py", "--threads", 1, "--output", tmp_path / "time.json")
    content = json.loads((tmp_path / "time.json").read_text())
    assert "same figures: True" in printed and content["resumed_gives_the_same"]
    assert content["n_images"] == 100 and len(content["checks"]) == 9
    assert content["stopped_after"] > 0


@pytest.mark.slow
def test_masking_verdicts(tmp_path):
    _run("masking_verdicts.py", "--output", tmp_path)
    rows = json.loads((tmp_path / "masking_verdicts.json").read_text())["rows"]
    assert len(rows) == 6

    def warned(row, evaluation):
        return {verdict["check"] for verdict in rows[row]["verdicts"][evaluation] if verdict["status"] == "warning"}

    # Codes have no gradient of their own: exact gradients alone are caught.
    warnings_seen = warned("PolarizingCoder, pixels, logistic", "PGD, exact gradients")
    assert {"zero or non-finite gradients", "black box beats white box"} <= warnings_seen
    assert "zero or non-finite gradients" not in warned("none, SVM", "default attacks")


@pytest.mark.slow
def test_convolutional_codes(tmp_path):
    _run("convolutional_codes.py", "--output", tmp_path)
    content = json.loads((tmp_path / "convolutional_codes_digits.json").read_text())
    psnr = [point["psnr"] for point in content["curve"]]
    assert psnr == sorted(psnr, reverse=True)
    assert content["linear_svm"].keys() >= {"pixels", "pooled codes"}
    front_end, undefended = content["searches"].values()
    assert len(front_end["candidates"]) == len(undefended["candidates"])
    assert front_end["scoring"] == undefended["scoring"]
    assert len(content["differences"]) == 2 and content["report"]
    assert (tmp_path / "convolutional_codes_digits.png").exists()
