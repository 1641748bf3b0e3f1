"""How long a full report takes, and that one which was stopped goes on to the same figures.

    SKROBUST_DATA=DIR python benchmarks/bench_report.py            # 3 minutes on 2 cores
    python benchmarks/bench_report.py --quick                      # seconds, bundled digits

2000 test images of MNIST, all ten classes; a Pipeline of `WaveletSparsifier` and `LinearSVC`; four eps; the default
attacks; the masking checks; a progress bar. The report is made twice: in one go, which is timed; and with a checkpoint,
interrupted (a KeyboardInterrupt, as from Ctrl-C) in its sixth attack and called again. Writes
benchmarks/results/bench_report.json.
"""

import argparse
import pathlib
import signal
import tempfile
import time

import torch
from _race import RESULTS, machine, write_json
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import WaveletSparsifier
from skrobust.datasets import load_dataset
from skrobust.evaluation import robustness_report

EPS = [0.05, 0.1, 0.15, 0.2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with MNIST; default: SKROBUST_DATA")
    parser.add_argument("--quick", action="store_true", help="a check, no result")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--stop-after", type=int, default=5, help="attacks that are kept when the report is stopped")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    if args.output is None and not args.quick:
        args.output = RESULTS / "bench_report.json"
    torch.set_num_threads(args.threads)
    model, X, y = fitted(args)

    def report(**options):
        started, used = time.perf_counter(), time.process_time()
        made = robustness_report(model, X, y, eps=EPS, random_state=0, verbose=1, **options)
        return made, time.perf_counter() - started, time.process_time() - used

    # Kernels are loaded and compiled once a machine, not once a report.
    robustness_report(model, X[:10], y[:10], eps=EPS, random_state=0)
    whole, seconds, cpu_seconds = report()
    print(whole, *whole.warnings(), f"{seconds:.1f} s", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / "report.npz"
        stopped_after = interrupted(lambda: report(checkpoint=checkpoint), checkpoint, args.stop_after)
        n_bytes = checkpoint.stat().st_size if checkpoint.exists() else 0
        resumed, rest, _ = report(checkpoint=checkpoint)
    same = without_time(resumed.rows) == without_time(whole.rows)
    print(
        f"stopped after {stopped_after:.1f} s with {n_bytes} bytes kept, resumed in {rest:.1f} s, same figures: {same}"
    )
    if not same:
        raise SystemExit("The resumed report differs.")
    if args.output is not None:
        content = {
            "what": __doc__.splitlines()[0],
            "machine": machine("torch", "scikit-learn", "numba"),
            "threads": args.threads,
            "n_images": len(y),
            "eps": EPS,
            "attacks": [trial.settings for trial in whole.trials["model"]],
            "checks": [verdict.as_dict() for verdict in whole.checks["model"]],
            "model": whole.settings["models"]["model"],
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "seconds_of_attacks": {
                trial.name + f", {trial.settings.get('gradient')}": [round(s, 2) for s in trial.seconds.tolist()]
                for trial in whole.trials["model"]
            },
            "stopped_after": round(stopped_after, 1),
            "resumed_in": round(rest, 1),
            "resumed_gives_the_same": same,
            "accuracy": {row["attack"]: row["accuracy"] for row in whole.rows if row["eps"] == 0.1},
        }
        write_json(args.output, content)


def fitted(args):
    """The Pipeline, and the test images."""
    name, n_train, n_test = ("digits", 500, 100) if args.quick else ("mnist", 5000, 2000)
    options = {} if args.quick else {"data_home": args.data_home}
    train, test = (load_dataset(name, split=split, **options) for split in ("train", "test"))
    wavelet, share = ("haar", 0.5) if args.quick else ("db5", 0.05)
    front_end = WaveletSparsifier(wavelet, n_nonzero_coefs=share, level=1, clip=(0, 1), image_shape=train.image_shape)
    model = make_pipeline(front_end, LinearSVC(C=0.003, random_state=0))
    return model.fit(train.data[:n_train], train.target[:n_train]), test.data[:n_test], test.target[:n_test]


def interrupted(function, checkpoint, n_kept):
    """Call `function` and interrupt it once `checkpoint` holds `n_kept` attacks; the seconds until it stopped."""
    versions = set()

    def interrupt(*_):
        if checkpoint.exists():
            versions.add(checkpoint.stat().st_mtime_ns)
        if len(versions) >= n_kept:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    started = time.perf_counter()
    try:
        function()
    except KeyboardInterrupt:
        return time.perf_counter() - started
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    raise SystemExit("The report had ended before it was to be stopped.")


def without_time(rows):
    """Rows but for the seconds that they took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


if __name__ == "__main__":
    main()
