"""What replaces `unpickleable_result` of the interpreter's tests."""

import threading


def return_lock() -> object:
    """Return what no pickler carries, cloudpickle included.

    The stdlib's test returns a lambda. That is no unpicklable result for obspool, which falls back
    to cloudpickle, so the runs of both pools use a lock.
    """
    return threading.Lock()
