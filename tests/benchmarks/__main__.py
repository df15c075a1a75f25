"""The command line of the benchmarks: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import compileall
import multiprocessing
import os
import sys
from pathlib import Path

import obspool
from tests.benchmarks import items, report
from tests.benchmarks.contenders import CONTENDERS, OBSPOOL, OTHERS, STDLIB
from tests.benchmarks.half import WORKERS, Scale
from tests.benchmarks.lines import LINES, Line
from tests.benchmarks.measure import DEFAULT_START_METHOD, measure_line
from tests.benchmarks.peers import missing

# Fewer, and a median is at the mercy of two disturbed pairs.
DEFAULT_PAIRS = 7
QUICK_PAIRS = 1

# A peer that takes longer for its part of a round is given up: some are fifty times as slow, and
# one that hangs must not end the comparison.
PEER_SECONDS = 100.0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the arguments; a wrong one ends the program with what is right."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="obspool against the stdlib's Pool, in interleaved pairs, with the target "
        "beside each figure. A ratio is the other's time by obspool's: above 1 obspool is faster.",
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
        "--against",
        action="append",
        choices=[STDLIB.name, *OTHERS],
        metavar="NAME",
        help="obspool's ratio to this peer, for all lines that it can run; may be repeated: "
        f"{', '.join([STDLIB.name, *OTHERS])}",
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
    if packages := missing(name for name in options.against or () if name in OTHERS):
        parser.error(f"not installed, so do this first: pip install {' '.join(packages)}")
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure the lines asked for, each printed as soon as it is known."""
    options = parse(argv)
    # As where obspool is installed: else each spawned worker would compile it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(obspool.__file__).parent, quiet=1)
    items.calibrate()
    about = report.machine()
    print(
        f"Python {about['python']}, {about['system']} {about['machine']}, {about['cpus']} CPUs, "
        f"{WORKERS} workers, {options.start_method}, {options.pairs} pairs a line"
    )
    lines = [line for line in LINES if not options.only or line.name in options.only]
    run = against_peers if options.against else against_targets
    figures, good = run(lines, options)
    if options.json is not None:
        report.write_json(options.json, figures)
    return 1 if options.check and not good else 0


def against_targets(
    lines: list[Line], options: argparse.Namespace
) -> tuple[list[dict[str, object]], bool]:
    """Measure lines against the stdlib, or what else theirs is; tell whether all is as asked."""
    check = options.self_check
    other = f"{STDLIB.name} again" if check else OBSPOOL.name
    print(report.header("baseline", other))
    figures, good = [], True
    for line in lines:
        if check and line.baseline is not STDLIB:
            continue
        contender = STDLIB if check else OBSPOOL
        contenders = [contender] if line.baseline is None else [line.baseline, contender]
        base = None if line.baseline is None else line.baseline.name
        for measured in measure_line(
            line,
            contenders,
            rounds=options.pairs,
            scale=Scale(quick=options.quick),
            start_method=options.start_method,
        ):
            print(report.row(measured, base, other, judge=not check), flush=True)
            figures.append(report.as_json(measured, base, other))
            good = good and (check or measured.reached(base or other, other))
    return figures, good


def against_peers(
    lines: list[Line], options: argparse.Namespace
) -> tuple[list[dict[str, object]], bool]:
    """Measure the lines that others can run; tell whether obspool is the first in all."""
    peers = list(dict.fromkeys(options.against))
    print(report.against_header([OBSPOOL.name, *peers]))
    figures, good = [], True
    for line in lines:
        if line.baseline is not STDLIB:
            continue
        for measured in measure_line(
            line,
            [OBSPOOL, *(CONTENDERS[name] for name in peers)],
            rounds=options.pairs,
            scale=Scale(quick=options.quick),
            start_method=options.start_method,
            limit=PEER_SECONDS,
        ):
            print(report.against_row(measured, OBSPOOL.name, peers), flush=True)
            figures.append(report.against_as_json(measured))
            good = good and report.is_first(measured, OBSPOOL.name, peers)
    return figures, good


if __name__ == "__main__":
    sys.exit(main())
