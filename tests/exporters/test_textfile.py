"""The file for node_exporter."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from obspool.exporters import textfile
from obspool.exporters.host import Host
from obspool.exporters.textfile import TextfileError
from obspool.words import Outcome
from tests.exporters.hosts import run_pool, shown
from tests.exporters.samples import key, series_of
from tests.exporters.servers import fetch, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.exporters.samples import Labels


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader finds the old text or the new one, and no other file."""
    texts = [b"a" * 1_000_000, b"b" * 1_000_000]
    textfile.write(tmp_path, texts[0])
    seen = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add((tmp_path / textfile.NAME).read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        textfile.write(tmp_path, texts[number % 2])
    stop.set()
    reader.join()
    assert seen <= set(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["obspool.prom"]


def test_others_may_read_it(tmp_path: Path) -> None:
    """As the umask allows: node_exporter is another user."""
    before = os.umask(0o027)
    try:
        textfile.write(tmp_path, b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / textfile.NAME).stat().st_mode) == 0o640


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """No directory, or something else in the file's place; a symlink isn't followed."""
    with pytest.raises(TextfileError, match=r"obspool\.prom can't be written: No such file"):
        textfile.write(tmp_path / "nowhere", b"")
    (tmp_path / textfile.NAME).mkdir()
    with pytest.raises(TextfileError, match="can't be written"):
        textfile.write(tmp_path, b"")
    assert [path.name for path in tmp_path.iterdir()] == [textfile.NAME]
    (tmp_path / textfile.NAME).rmdir()
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (tmp_path / ".obspool.prom.tmp").symlink_to(target)
    textfile.write(tmp_path, b"new")
    assert target.read_bytes() == b"untouched"


def _with_plain_bounds(one: tuple[str, Labels]) -> tuple[str, Labels]:
    """node_exporter writes `le="1"` for our `le="1.0"`."""
    name, labels = one
    return name, frozenset(
        (label, str(float(text)) if label == "le" else text) for label, text in labels
    )


def test_node_exporter_takes_all_of_it(tmp_path: Path) -> None:
    """The real one serves each series with its value, and says that there was no error."""
    run = run_pool()
    run_pool(shown("other", 70))
    host = Host(3600.0, own_process=False)
    text, _ = host.text(openmetrics=False)
    host.close()
    directory = tmp_path / "textfiles"
    directory.mkdir()
    textfile.write(directory, text)
    options = (
        "--web.listen-address={listen}",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={directory}",
    )
    with running("prometheus-node-exporter", "/metrics", tmp_path / "log", *options) as url:
        served = series_of(read_text(fetch(f"{url}/metrics")))
    assert served[key("node_textfile_scrape_error", {})] == 0
    served = {_with_plain_bounds(one): number for one, number in served.items()}
    told = series_of(read_text(text.decode()))
    ours = {_with_plain_bounds(one): number for one, number in told.items()}
    assert {one: served.get(one) for one in ours} == ours
    name, labels = "obspool_items_completed_total", {"pool": "nightly", "outcome": "ok"}
    assert served[key(name, labels)] == run.items_completed[Outcome.OK]
