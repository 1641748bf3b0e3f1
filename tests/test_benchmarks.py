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
    _run("corruption_table_cifar10.py", "--output", output, "--page", page)
    content = json.loads(output.read_text())
    assert content["n_test"] == 40
    assert {row["severity"] for row in content["rows"]} == {1, 5}
    assert page.read_text().count("gaussian noise") == 2


@pytest.mark.slow
def test_three_scores(tmp_path):
    printed = _run("three_scores_mnist.py", "--output", tmp_path)
    assert "trade-off" in printed
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".json", ".png"}
