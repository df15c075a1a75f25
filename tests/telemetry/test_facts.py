"""What a pool says of its process, and how pools are named."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from obspool.telemetry import facts

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
SAY = "from obspool.telemetry.facts import default_name; print(default_name())"


def _python(*arguments: str, cwd: Path | None = None, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        input=given,
        capture_output=True,
        check=True,
        cwd=cwd,
        env=HERE,
        text=True,
    )
    return done.stdout.strip()


def test_the_facts_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """They tell one process from all others, also after its pid was used again."""
    monkeypatch.setenv("OBSPOOL_LABELS", "dag=nightly")
    monkeypatch.setattr(sys, "argv", ["/some/where/batch.py", "--all"])
    found = facts.facts_of_this_process("nightly", "processes", "spawn", "/run/x.sock")
    assert (found.name, found.engine, found.start_method) == ("nightly", "processes", "spawn")
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert (found.program, found.control) == ("batch.py", "/run/x.sock")
    assert found.labels == (("dag", "nightly"),)
    ticks = found.process_start_ticks / os.sysconf("SC_CLK_TCK")
    assert psutil.boot_time() + ticks == pytest.approx(psutil.Process().create_time(), abs=2)
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.pid_namespace == Path("/proc/self/ns/pid").stat().st_ino


def test_a_program_without_argv_has_facts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may be embedded; an argument may be no UTF-8, or long."""
    monkeypatch.delattr(sys, "argv")
    assert facts.facts_of_this_process("x", "", "").program == ""
    monkeypatch.setattr(sys, "argv", ["\udcff" + "y" * 300], raising=False)
    program = facts.facts_of_this_process("x", "", "").program
    assert program == "?" + "y" * 199


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("nightly", "nightly"),
        ("  two words ", "two_words"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("--yes", "yes"),
        (".hidden", "hidden"),
        ("größe", "gr__e"),
        ("a" * 100, "a" * 64),
        ("v1.2_x-3", "v1.2_x-3"),
        ("line\nbreak\x1b[31m", "line_break__31m"),
    ],
)
def test_names_are_made_safe(given: str, made: str) -> None:
    """For file names, labels, command lines and terminals."""
    assert facts.pool_name(given) == made


@pytest.mark.parametrize("given", ["", "   ", "...", "-"])
def test_empty_names_are_refused(given: str) -> None:
    """A pool must be addressable."""
    with pytest.raises(ValueError, match="at least one letter"):
        facts.pool_name(given)


def test_a_name_is_a_string() -> None:
    """As everything else that is wrong, it says so at once."""
    with pytest.raises(TypeError, match="not int"):
        facts.pool_name(5)  # type: ignore[arg-type]


def test_suffixes_keep_the_bound() -> None:
    """The name is cut, not the number."""
    assert facts.with_suffix("nightly", 1) == "nightly"
    assert facts.with_suffix("nightly", 2) == "nightly-2"
    assert facts.with_suffix("a" * 64, 12) == "a" * 61 + "-12"


def test_the_default_name_is_the_scripts(tmp_path: Path) -> None:
    """Or the module's or package's that runs."""
    (tmp_path / "batch.job.py").write_text(SAY)
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__", "__main__", "module"):
        (package / f"{name}.py").write_text("" if name == "__init__" else SAY)
    assert _python(str(tmp_path / "batch.job.py")) == "batch.job"
    assert _python("-m", "package.module", cwd=tmp_path) == "module"
    assert _python("-m", "package", cwd=tmp_path) == "package"


def test_interactively_the_default_name_is_python() -> None:
    """Also for a program given on the command line or by a pipe."""
    assert _python("-c", SAY) == "python"
    assert _python(given=SAY) == "python"
    assert _python("-i", given=SAY + "\n").splitlines()[0] == "python"


def test_in_a_notebook_it_is_notebook() -> None:
    """The kernel's script has a path that says nothing."""
    assert _python("-c", f"import sys; sys.modules['ipykernel'] = sys; {SAY}") == "notebook"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ()),
        ("dag=nightly,slurm_job=4711", (("dag", "nightly"), ("slurm_job", "4711"))),
        (" dag = a b , ", (("dag", "a b"),)),
        ("url=http://x/?a=b", (("url", "http://x/?a=b"),)),
        ("empty=", (("empty", ""),)),
        ("twice=1,twice=2", (("twice", "2"),)),
        ("long=" + "x" * 200, (("long", "x" * 128),)),
    ],
)
def test_labels(text: str, labels: tuple[tuple[str, str], ...]) -> None:
    """OBSPOOL_LABELS is a list of names and values."""
    assert facts.labels(text) == labels


@pytest.mark.parametrize(
    "wrong", ["novalue", "1st=x", "__x=y", "job=x", "instance=x", "pool=x", "a-b=c", "=x"]
)
def test_wrong_labels_are_left_out_and_told(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """One INFO line, and the others are kept."""
    with caplog.at_level(logging.INFO, "obspool"):
        assert facts.labels(f"{wrong},dag=x") == (("dag", "x"),)
    assert len(caplog.records) == 1
    assert wrong in caplog.text


def test_labels_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Each is a label of every scrape."""
    with caplog.at_level(logging.INFO, "obspool"):
        found = facts.labels(",".join(f"l{number}={number}" for number in range(30)))
    assert len(found) == 16
    assert json.dumps(found)
