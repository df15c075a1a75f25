"""obspool against the stdlib's Pool, and against its other peers, on the same work in the same run.

    lines.py ── what is measured, and what is asked of it ──┐
    items.py, payloads.py, skew.py, workers.py,             ├──> measure.py ──> report.py
      memory.py, watched.py: how, one subject each ─────────┤
    contenders.py, peers/: whose pools ─────────────────────┘

Run `python -m tests.benchmarks --help`.
"""
