"""obspool against the stdlib's Pool, on the same work in the same run.

work.py has the functions that workers run, lines.py what is measured, measure.py how, report.py
what is printed. Run `python -m tests.benchmarks --help`.
"""
