"""The interpreter's own tests of `multiprocessing.Pool`, run against obspool.

runner.py runs them in a process of its own and reports; harness.py starts it, watches for hangs and
reads its report; test_stdlib.py makes a pytest result of each; broken.py is a pool with known
faults, which proves that the harness sees faults.
"""
