"""The CIFAR-10 script of layered pursuits: its quick form, its networks, and that it goes on where it was stopped."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduce" / "layered_cifar10.py"


@pytest.mark.slow
def test_quick_form_runs_and_resumes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("old\n\n## Discussion\n\n- Written by hand.\n", encoding="utf8")
    command = [sys.executable, str(SCRIPT), "--quick", "--device", "cpu"]
    command += ["--models", str(tmp_path / "models"), "--output", str(tmp_path), "--page", str(page)]

    def run():
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    path = tmp_path / "layered_cifar10_quick.json"
    assert "DP-res, 2" in run()
    content = json.loads(path.read_text(encoding="utf8"))
    assert content["form"] == "quick" and content["threat_model"] == "white box"
    assert set(content["results"]["unfolded"]["0"]) == {"L-THR, 0", "L-BP, 2"}
    blocks = content["results"]["blocks"]["0"]
    assert set(blocks) == {"L-THR, 0", "L-THR-res, 0"} | {
        f"{name}, {n}" for name in ("L-BP", "DP", "L-BP-res", "DP-res") for n in (1, 2)
    }
    for block in blocks.values():
        after = list(block["attacked"]["PGD"]["4"].values())
        assert after == sorted(after, reverse=True) and 0 <= after[-1] <= 1
    # A stopped run resumes: only the missing results are computed.
    del content["results"]["blocks"]["0"]["DP, 2"]["attacked"]
    path.write_text(json.dumps(content), encoding="utf8")
    assert run().count("\n") == 1
    assert set(json.loads(path.read_text(encoding="utf8"))["results"]["blocks"]["0"]["DP, 2"]) == set(
        blocks["DP-res, 2"]
    )
    page_text = page.read_text(encoding="utf8")
    assert page_text.count("| DP-res | 2 |") == 1 and page_text.endswith("\n\n## Discussion\n\n- Written by hand.\n")
    assert (tmp_path / "layered_cifar10_quick.png").stat().st_size > 10_000
