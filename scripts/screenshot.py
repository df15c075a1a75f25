# ruff: noqa: INP001 - a script, not a package
"""Draw docs/top.svg, the README's picture of `obspool top`, from a made-up pool.

    python scripts/screenshot.py            write the picture
    python scripts/screenshot.py --check    tell by the exit code whether it is up to date

It needs the extra `top`. The same sources give the same bytes: the clock is the film's own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "dashboard")]

from obspool_dashboard.app import TopApp  # noqa: E402 - after the path
from obspool_dashboard.picture import self_contained  # noqa: E402
from obspool_dashboard.recorded import RecordedSource, entry_of  # noqa: E402
from obspool_dashboard.screens.pool import PoolScreen  # noqa: E402
from tests.dashboard.film import snapshot_at  # noqa: E402
from tests.synthetic import NOW  # noqa: E402

SIZE = (120, 26)
WORKERS = 8
SECONDS = 60
PATIENCE = 30.0


async def picture(length: int) -> str:
    """Play so many seconds of the film, and return the screen at its end as SVG."""
    seconds = float(-length)
    source = RecordedSource(nightly=lambda: snapshot_at(seconds, workers=WORKERS))
    app = TopApp(
        source,
        entry=entry_of(snapshot_at(seconds, workers=WORKERS)),
        clock=lambda: NOW + seconds,
    )
    async with app.run_test(size=SIZE) as pilot:
        screen = app.screen
        if not isinstance(screen, PoolScreen):
            raise TypeError(f"the first screen is {screen!r}")
        # Reads when it is told to, once for each second of the film, and not by itself.
        screen.reader.interval = PATIENCE
        for second in range(-length, 1):
            seconds = float(second)
            end = time.monotonic() + PATIENCE
            while screen.latest is None or screen.latest.snapshot.time < NOW + seconds:
                if time.monotonic() > end:
                    raise TimeoutError(f"no reading of second {second}")
                screen.reader.now()
                await asyncio.sleep(0.002)
        await pilot.pause()
        return self_contained(app.export_screenshot(title="obspool top"))


def main() -> int:
    """Write or check the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "top.svg")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of the film, for the curve")
    arguments = parser.parse_args()
    # Times of day stand in the picture.
    os.environ["TZ"] = "UTC"
    time.tzset()
    svg = asyncio.run(picture(arguments.seconds))
    if arguments.check:
        return int(not arguments.out.exists() or arguments.out.read_text(encoding="utf-8") != svg)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
