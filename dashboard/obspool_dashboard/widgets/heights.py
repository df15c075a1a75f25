"""How the lines of a screen are shared out between its panels."""

from __future__ import annotations

from typing import NamedTuple

TITLE = 1
# With fewer lines than this there is the table only, without a title.
SHORT = 12
# Rows of workers, with header and totals, that the panels below must leave.
TABLE_LEAST = 8
JOBS_MOST = 6
JOBS_HEADER = 1


class Heights(NamedTuple):
    """Lines of each panel without its title; 0 means that it isn't shown, nor its title.

    Attributes:
        titled: whether the table has a title.
    """

    table: int
    jobs: int
    events: int
    titled: bool


def share_out(lines: int, *, workers: int, jobs: int, events: int) -> Heights:
    """Share out `lines` between the table of workers, the jobs and the events.

    The panels below get their least as long as the table has its own; then the table grows to what
    it needs, then the jobs, and the events take the rest.
    """
    if lines < SHORT:
        return Heights(max(0, lines), 0, 0, titled=False)
    table_wanted = workers + 2
    free = lines - TITLE
    jobs_got = events_got = 0
    least = min(TABLE_LEAST, table_wanted)
    jobs_least = JOBS_HEADER + min(jobs, max(1, lines // 15))
    events_least = max(3, lines // 8)
    if jobs and free >= least + TITLE + jobs_least:
        jobs_got = jobs_least
        free -= TITLE + jobs_least
    if events and free >= least + TITLE + events_least:
        events_got = events_least
        free -= TITLE + events_least
    table = min(table_wanted, free)
    free -= table
    if jobs_got:
        more = min(free, JOBS_HEADER + min(jobs, JOBS_MOST) - jobs_got)
        jobs_got += more
        free -= more
    if events_got:
        events_got += free
    else:
        table += free
    return Heights(table, jobs_got, events_got, titled=True)
