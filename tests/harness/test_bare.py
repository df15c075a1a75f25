"""The pool without any telemetry, which benchmarks compare with: it must still be a pool."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.environment import environment

_PROGRAM = """
import multiprocessing
from obspool import Pool
from tests.benchmarks import bare

bare.strip()
with Pool(2, context=multiprocessing.get_context("fork")) as pool:
    workers = [process.pid for process in pool._pool]
    assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
    assert pool.map(abs, range(-100, 0), 1) == list(range(100, 0, -1))
    assert [pool.apply(abs, (-number,)) for number in range(50)] == list(range(50))
    assert [pool.apply_async(abs, (-number,)).get() for number in range(50)] == list(range(50))
    assert sorted(pool.imap_unordered(abs, range(50))) == list(range(50))
    assert [process.pid for process in pool._pool] == workers
"""


def test_a_pool_without_telemetry_works() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
