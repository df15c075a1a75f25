"""Write the dashboards and the Kubernetes rules: `python -m grafana.builder [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana.builder import files

FOLDER = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which of them are out of date."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = [
        path
        for path, text in files.made(FOLDER).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(path.relative_to(FOLDER))
        if not arguments:
            path.write_text(files.made(FOLDER)[path], encoding="utf-8")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
