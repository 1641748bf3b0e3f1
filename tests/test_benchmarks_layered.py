"""The MNIST experiment of layered pursuits runs end to end in its quick form, and goes on where it was stopped."""

import json
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduce" / "layered_mnist.py"


def run(folder):
    command = [sys.executable, SCRIPT, "--quick", "--models", folder / "models", "--output", folder]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_layered_mnist(tmp_path):
    run(tmp_path)
    path = tmp_path / "layered_mnist_quick.json"
    content = json.loads(path.read_text())
    results = content["results"]
    assert set(results["comparison"]) == {"0", "1"}
    for both in results["comparison"].values():
        for network in both.values():
            for attacked in network["pgd"].values():
                fgsm, cross_entropy, margin = attacked["after"].values()
                assert network["clean_on_attacked"] >= fgsm >= cross_entropy >= margin
                assert len(attacked["standing"]) == round(margin * content["settings"]["n_test"])
            assert min(network["network"]["mean_threshold"]) >= 0
    assert {"L-THR", "L-BP, 4 steps, Parseval 0.003", "L-BP, 8 steps"} <= set(results["scouting"])
    assert set(results["steps in testing alone"]) == {"0", "2", "8", "16"}
    for name, runs in results["stronger"].items():
        first, second, alone = runs.values()
        stood = results["comparison"]["0"][name]["pgd"]["0.1"]["standing"]
        assert set(second["standing"]) <= set(first["standing"]) <= set(stood) and alone["accuracy"] <= 1
    assert (tmp_path / "layered_mnist_quick.png").stat().st_size > 10_000

    # With half of the results deleted, the rest is kept and recomputed results are equal.
    del results["comparison"]["1"]["L-BP"], results["steps in testing alone"]
    path.write_text(json.dumps(content))
    printed = run(tmp_path)
    assert "comparison / 1 / L-BP" in printed and "comparison / 0" not in printed and "scouting" not in printed
    again, before = json.loads(path.read_text())["results"], json.loads(json.dumps(content["results"]))
    assert again["scouting"] == before["scouting"] and again["comparison"]["0"] == before["comparison"]["0"]
    assert again["steps in testing alone"]["8"]["clean"] > 0
