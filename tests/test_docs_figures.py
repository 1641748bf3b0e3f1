"""Figures that the documentation quotes are those of the committed results."""

import json
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).parents[1]


def result(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf8"))


def text(name):
    """A document with all white space as single spaces."""
    return re.sub(r"\s+", " ", (ROOT / name).read_text(encoding="utf8"))


def numbers(cell):
    return [number.replace(",", "") for number in re.findall(r"\d[\d.,]*\d|\d", cell)]


def rounded_alike(quoted, value):
    """Whether a number is the value to the digits quoted."""
    digits = len(quoted.partition(".")[2])
    return abs(float(quoted) - value) <= 0.5001 * 10.0**-digits


def test_the_table_of_orthogonal_matching_pursuit_is_that_of_the_results():
    lines = (ROOT / "docs" / "pursuits.md").read_text(encoding="utf8").splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| features, atoms, K |"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[header + 2 : header + 8]]
    workloads = {(w["features"], w["atoms"], w["k"], w["dtype"]): w for w in result("bench_omp.json")["workloads"]}
    assert len(workloads) == 6
    for size, dtype, *cells in rows:
        w = workloads.pop((*map(int, numbers(size)), dtype))
        rates, ratios = w["signals_per_second"], w["ratios"]
        batched = [rate for name, rate in rates.items() if name.startswith("batched OMP")]
        speeds = [rates["skrobust, OMP"], rates["skrobust, OLS"], rates["SPAMS"], *sorted(batched)[-1:]]
        expected = [rate / 1000 for rate in [*speeds, rates["dictlearn"], rates["scikit-learn"]]]
        expected += [ratios["OLS to SPAMS"], ratios["OLS to SPAMS, one thread"]]
        expected += [
            ratios[f"OMP to {peer}"]
            for peer in ("SPAMS", "batched OMP", "scikit-learn")
            if batched or peer != "batched OMP"
        ]
        quoted = [number for cell in cells for number in numbers(cell)]
        assert cells.count("not raced") == (0 if batched else 2)
        assert len(quoted) == len(expected)
        for number, value in zip(quoted, expected, strict=True):
            assert rounded_alike(number, value), (size, dtype, number, value)


def test_median_and_least_ratios_of_orthogonal_matching_pursuit_are_those_of_the_results():
    workloads = result("bench_omp.json")["workloads"]
    patterns = {
        "OLS to SPAMS": r"in the median ([\d.]+) times as fast as SPAMS \(([\d.]+) at least\)",
        "OMP to scikit-learn": r"By OMP it is ([\d.]+) times as fast as scikit-learn \(([\d.]+) at least\)",
    }
    for document in ("README.md", "docs/pursuits.md"):
        for name, pattern in patterns.items():
            found = re.search(pattern, text(document))
            assert found, (document, name)
            ratios = [w["ratios"][name] for w in workloads]
            for number, value in zip(found.groups(), (statistics.median(ratios), min(ratios)), strict=True):
                assert rounded_alike(number, value), (document, name, number, value)


def test_the_bound_of_norms_is_quoted_as_in_the_results():
    summary = result("bench_step_sizes.json")["summary"]
    found = re.search(
        r"of (\d+) problems, (\d+) take at most 20 ms \(median ([\d.]+) ms, slowest ([\d.]+) s\)\. "
        r"The bound exceeds the true value by at most 1 % in (\d+), and by at most ([\d.]+) % in all",
        text("docs/convolutional.md"),
    )
    assert found
    seconds, excess = summary["seconds"], summary["excess"]
    values = summary["problems"], summary["within 20 ms"], 1000 * seconds["median"], seconds["largest"]
    for number, value in zip(
        found.groups(), (*values, summary["excess at most 1 %"], 100 * excess["largest"]), strict=True
    ):
        assert rounded_alike(number, value), (number, value)
    assert excess["least"] > -1e-5  # no bound below the true value, which ARPACK gives to 1e-6
