"""Tests of what the other tests stand on: conftest.py's guards, helpers.py, the benchmarks."""
