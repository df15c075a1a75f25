"""The command line of the benchmarks: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import compileall
import multiprocessing
import os
import sys
from pathlib import Path

import obspool
from tests.benchmarks import report
from tests.benchmarks.lines import LINES, WORKERS, Scale
from tests.benchmarks.measure import (
    DEFAULT_START_METHOD,
    OBSPOOL,
    STDLIB,
    Contender,
    Measured,
    measure_line,
)

# Fewer, and a median is at the mercy of two disturbed pairs.
DEFAULT_PAIRS = 7
QUICK_PAIRS = 1


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the arguments; a wrong one ends the program with what is right."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="obspool against the stdlib's Pool, in interleaved pairs; the ratio is "
        "the stdlib's time by obspool's: above 1 obspool is faster.",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures to FILE as well"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[line.name for line in LINES],
        metavar="NAME",
        help=f"measure this line, may be repeated: {', '.join(line.name for line in LINES)}",
    )
    parser.add_argument("--pairs", type=int, help=f"pairs a line, default {DEFAULT_PAIRS}")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work, one pair")
    parser.add_argument(
        "--start-method",
        choices=multiprocessing.get_all_start_methods(),
        default=DEFAULT_START_METHOD,
        help="of the lines that aren't about one (default: %(default)s)",
    )
    parser.add_argument(
        "--self-check",
        action="store_true",
        help="the stdlib against itself: ratios far from 1 are this machine's noise",
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when a target is not reached"
    )
    options = parser.parse_args(argv)
    if options.pairs is None:
        options.pairs = QUICK_PAIRS if options.quick else DEFAULT_PAIRS
    if options.pairs < 1:
        parser.error("--pairs must be at least 1")
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure the lines asked for, each printed as soon as it is known."""
    options = parse(argv)
    # As where obspool is installed: else each spawned worker would compile it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(obspool.__file__).parent, quiet=1)
    baseline = STDLIB
    contender = Contender("stdlib", STDLIB.module) if options.self_check else OBSPOOL
    contenders = (baseline, contender)
    about = report.machine()
    print(
        f"Python {about['python']}, {about['system']} {about['machine']}, {about['cpus']} CPUs, "
        f"{WORKERS} workers, {options.start_method}, {options.pairs} pairs a line"
    )
    print(report.header(contenders))
    results: list[Measured] = []
    for line in LINES:
        if options.only and line.name not in options.only:
            continue
        measured = measure_line(
            line,
            contenders,
            pairs=options.pairs,
            scale=Scale(quick=options.quick),
            start_method=options.start_method,
        )
        for figure in measured:
            print(report.row(figure, judge=not options.self_check), flush=True)
        results += measured
    if options.json is not None:
        report.write_json(options.json, results, contenders)
    missed = [result for result in results if not result.reached]
    return 1 if options.check and missed and not options.self_check else 0


if __name__ == "__main__":
    sys.exit(main())
