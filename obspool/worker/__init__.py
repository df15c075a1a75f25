"""All that runs in a worker: batches in, results out, and what it tells of itself.

    batch ──> pieces ──> slices: claim ─ mark, load, call ─ mark, load, call ... ──> Outbox ──>
    parent
                            │      │
                            ▼      ▼
                          segment: claim, mark, counters

A worker process imports this package at every recycle, so it imports little: the parts of
multiprocessing that spawn has loaded already, and a few small modules of obspool.
"""
