"""The files around the dashboards: servers' configuration, provisioning, compose, Kubernetes."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.boards import DASHBOARDS, FOLDER, RULES, alerts, read, rule_groups
from tests.grafana.servers import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

YAML_FILES = sorted([*FOLDER.rglob("*.yml"), *FOLDER.rglob("*.yaml")])
PROMETHEUS = FOLDER / "prometheus" / "prometheus.yml"
ALERTMANAGER = FOLDER / "alertmanager" / "alertmanager.yml"


def _load(*parts: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FOLDER.joinpath(*parts).read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_each_file_is_yaml_without_tabs(path: Path) -> None:
    """And begins with something."""
    text = path.read_text(encoding="utf-8")
    assert "\t" not in text
    assert yaml.safe_load(text)


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """`promtool check config` on the folder as compose mounts it, with a program in targets/."""
    mounted = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS.parent, mounted)
    targets = [{"targets": ["127.0.0.1:9401"], "labels": {"team": "batch"}}]
    (mounted / "targets" / "more.json").write_text(json.dumps(targets), encoding="utf-8")
    done = run("promtool", "check", "config", str(mounted / PROMETHEUS.name))
    assert done.returncode == 0, done.stdout
    assert f"{len(RULES)} rule files" in done.stdout, done.stdout


def test_prometheus_reads_all_rules_and_the_exporters_job() -> None:
    """Each rule file is named, and the job that ObspoolExporterDown looks at is there."""
    config = _load("prometheus", "prometheus.yml")
    assert set(config["rule_files"]) == {path.name for path in RULES}
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    (down,) = (rule for rule in alerts() if rule["alert"] == "ObspoolExporterDown")
    assert set(re.findall(r'job="([^"]+)"', down["expr"])) <= jobs


def test_alertmanager_takes_its_configuration() -> None:
    """`amtool check-config`, and the alerts that it names are there."""
    done = run("amtool", "check-config", str(ALERTMANAGER))
    assert done.returncode == 0, done.stdout
    named = set(re.findall(r"Obspool\w+", ALERTMANAGER.read_text(encoding="utf-8")))
    assert named <= {rule["alert"] for rule in alerts()}


def test_grafana_finds_the_data_source_and_the_dashboards() -> None:
    """Provisioning and compose speak of the same places, addresses and intervals."""
    (source,) = _load("provisioning", "datasources", "prometheus.yml")["datasources"]
    (provider,) = _load("provisioning", "dashboards", "obspool.yml")["providers"]
    services = _load("compose.yaml")["services"]
    mounts = _mounts(services["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "./dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, name = home.rpartition("/")
    assert folder == provider["options"]["path"]
    assert name in {path.name for path in DASHBOARDS}
    address = source["url"].removeprefix("http://")
    assert f"--web.listen-address={address}" in services["prometheus"]["command"]
    config = _load("prometheus", "prometheus.yml")
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    ((alertmanagers,),) = (
        [one["targets"] for one in each["static_configs"]]
        for each in config["alerting"]["alertmanagers"]
    )
    assert [f"--web.listen-address={one}" for one in alertmanagers] == [
        one for one in services["alertmanager"]["command"] if one.startswith("--web.listen")
    ]


def test_compose_mounts_what_is_there_and_listens_on_the_loopback() -> None:
    """Each mounted folder exists, each image has a version, nothing is open to others."""
    compose = _load("compose.yaml")
    for name, service in compose["services"].items():
        assert re.fullmatch(r"docker\.io/[\w/]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert service["network_mode"] == "host"
        for place in _mounts(service["volumes"]).values():
            assert (FOLDER / place).is_dir() if place[0] == "." else place in compose["volumes"]
        said = json.dumps([service.get("command"), service.get("environment")])
        assert "127.0.0.1" in said, name
        assert "0.0.0.0" not in said  # noqa: S104 - which is what must not be there


def _mounts(volumes: Iterable[str]) -> dict[str, str]:
    return {inside: outside for outside, inside, *_ in (one.split(":") for one in volumes)}


def test_kubernetes_has_the_same_rules() -> None:
    """The PrometheusRule's groups are those of the rule files."""
    rule = _load("kubernetes", "prometheusrule.yaml")
    assert rule["kind"] == "PrometheusRule"
    wanted = [group for path in reversed(RULES) for group in rule_groups(path)]
    assert rule["spec"]["groups"] == wanted


def test_the_pod_monitor_finds_the_jobs_exporter() -> None:
    """By the pod's label and the port's name."""
    monitor = _load("kubernetes", "podmonitor.yaml")["spec"]
    pod = _load("kubernetes", "job-with-exporter.yaml")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (sidecar,) = pod["spec"]["initContainers"]
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert str(ports[endpoint["port"]]) in sidecar["command"][-1]


def test_the_sidecar_reads_what_the_program_writes_and_ends_after_it() -> None:
    """A native sidecar, another user, one volume in memory, one group, time for a last scrape."""
    pod = _load("kubernetes", "job-with-exporter.yaml")["spec"]["template"]["spec"]
    (sidecar,), (program,) = pod["initContainers"], pod["containers"]
    assert sidecar["restartPolicy"] == "Always"
    environments = [
        {one["name"]: one["value"] for one in each["env"]} for each in (sidecar, program)
    ]
    assert environments[0]["OBSPOOL_DIR"] == environments[1]["OBSPOOL_DIR"]
    assert environments[1]["OBSPOOL_GROUP"] == str(pod["securityContext"]["fsGroup"])
    (volume,) = pod["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    for each in (sidecar, program):
        (mount,) = each["volumeMounts"]
        assert mount == {"name": volume["name"], "mountPath": environments[0]["OBSPOOL_DIR"]}
    users = {each["securityContext"]["runAsUser"] for each in (sidecar, program)}
    assert len(users) == 2
    waits = int(sidecar["lifecycle"]["preStop"]["exec"]["command"][-1])
    monitor = _load("kubernetes", "podmonitor.yaml")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    interval = int(endpoint["interval"].removesuffix("s"))
    assert 2 * interval < waits < pod["terminationGracePeriodSeconds"]


def test_the_schedule_label_is_the_one_that_the_alert_looks_for() -> None:
    """The example Job says `schedule=daily` as ObspoolNotSucceededFor wants it."""
    pod = _load("kubernetes", "job-with-exporter.yaml")["spec"]["template"]["spec"]
    (labels,) = (
        one["value"] for one in pod["containers"][0]["env"] if one["name"] == "OBSPOOL_LABELS"
    )
    name, _, value = labels.partition("=")
    assert any(f'{name}="{value}"' in rule["expr"] for rule in alerts())


def test_what_is_written_of_panels_is_there() -> None:
    """Titles that the runbooks and the README put in *…* are panels or rows of the dashboards."""
    titles = {panel["title"] for path in DASHBOARDS for panel in read(path)["panels"]}
    for path in (FOLDER.parent / "docs" / "runbooks.md", FOLDER / "README.md"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for title in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", text):
            assert title in titles, (path.name, title)


def test_panels_speak_of_panels_and_runbooks_that_are_there() -> None:
    """“…” in descriptions is a panel or a row of the same dashboard."""
    sections = re.findall(
        r"^## Obspool(\w+)$",
        (FOLDER.parent / "docs" / "runbooks.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for path in DASHBOARDS:
        shown = read(path)["panels"]
        columns = {target["legendFormat"] for panel in shown for target in panel.get("targets", [])}
        titles = {panel["title"] for panel in shown} | columns
        for panel in shown:
            said = panel.get("description", "")
            for title in re.findall(r"“([^”]+)”", said):
                assert title in titles, (panel["title"], title)
            for section in re.findall(r"docs/runbooks\.md, (\w+)", said):
                assert section in sections
