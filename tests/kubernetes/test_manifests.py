"""The manifests are valid for Kubernetes, and agree with each other and with the code that they deploy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from include import connections
from include.spark import installation, settings
from tests.kubernetes.chart_keys import KEYS

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="It is not installed: `make test` installs it.")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.33"  # of Kubernetes; the manifests use stable kinds only
VALUES = sorted(FOLDER.glob("values*.yaml"))
MANIFESTS = [
    pytest.param(document, id=f"{path.name}-{document['kind']}-{document['metadata']['name']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    if path not in VALUES
    for document in yaml.safe_load_all(path.read_text())
]
ALL = [parameter.values[0] for parameter in MANIFESTS]
ONLY_WITH_PODS_FOR_TASKS = ("kubernetes-executor",)  # policies
CHART = yaml.safe_load((FOLDER / "values.yaml").read_text())
STORES, OUTSIDE = "10.20.0.7", "93.184.216.34"


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_fits_the_schema_of_its_kind(manifest: dict) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_schema_refuses_a_misspelled_key() -> None:
    """This shows that the test above can fail."""
    wrong = {**ALL[0], "metadatas": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="metadatas"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def paths(values: object, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all leaves; a list is a leaf."""
    if isinstance(values, dict) and values:
        for key, inner in values.items():
            yield from paths(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.name)
def test_every_value_is_a_key_of_the_chart(path: Path) -> None:
    free = tuple(key.removesuffix("*") for key in KEYS if key.endswith(".*"))
    unknown = [
        name for name in paths(yaml.safe_load(path.read_text())) if name not in KEYS and not f"{name}.".startswith(free)
    ]
    assert unknown == [], "Not in tests/kubernetes/chart_keys.py: check them in the chart's values.yaml."


@pytest.mark.parametrize("part", ["scheduler", "apiServer", "dagProcessor", "triggerer", "workers"])
def test_the_resources_of_a_pod_fit_its_schema(part: str) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": part.lower()},
        "spec": {
            "containers": [
                {
                    "name": "it", "resources": CHART[part]["resources"], "env": CHART[part].get("env", []) + CHART["env"],
                    "volumeMounts": CHART[part].get("extraVolumeMounts", []),
                }
            ],
            "volumes": CHART[part].get("extraVolumes", []),
        },
    }  # fmt: skip
    kubernetes_validate.validate(pod, VERSION, strict=True)


def test_the_chart_is_for_the_airflow_that_is_tested() -> None:
    [locked] = re.findall(r"^apache-airflow==(\S+)", (ROOT / "local" / "requirements.lock").read_text(), re.MULTILINE)
    assert CHART["airflowVersion"] == locked


# Settings for a laptop only, or for which the chart's own value is better.
_NOT_DEPLOYED = {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "AIRFLOW__CORE__PARALLELISM"}


def test_settings_of_the_env_file_are_deployed() -> None:
    lines = (ROOT / ".env").read_text().splitlines()
    laptop = dict(line.split("=", 1) for line in lines if line.startswith("AIRFLOW__"))
    deployed = {variable["name"]: variable["value"] for variable in CHART["env"]}
    plugins = "AIRFLOW__CORE__PLUGINS_FOLDER"
    assert deployed[plugins] == f"{CHART['airflowHome']}/{laptop.pop(plugins)}"
    assert {name: deployed.get(name) for name in laptop.keys() - _NOT_DEPLOYED} == {
        name: value for name, value in laptop.items() if name not in _NOT_DEPLOYED
    }


def secrets() -> dict[str, dict]:
    return {manifest["metadata"]["name"]: manifest["stringData"] for manifest in ALL if manifest["kind"] == "Secret"}


def test_secrets_name_every_connection_and_no_value() -> None:
    optional = {"lakehouse_catalog"}
    expected = {connections.variable(name) for name in connections.IDS if name not in optional}
    assert set(secrets()["minutemark-connections"]) == expected
    assert {value for secret in secrets().values() for value in secret.values()} == {""}


def test_secrets_list_the_alert_channels_which_are_optional() -> None:
    channels = re.findall(
        r'^[A-Z]+ = "(minutemark_\w+)"$', (ROOT / "plugins" / "notifiers.py").read_text(), re.MULTILINE
    )
    listed = re.findall(r'^  # (\w+): ""$', (FOLDER / "secrets.yaml").read_text(), re.MULTILINE)
    assert len(channels) >= 3 and listed == [connections.variable(name) for name in channels]


def test_every_secret_that_the_values_name_is_declared() -> None:
    names = {CHART["data"]["metadataSecretName"], *(CHART[key] for key in CHART if key.endswith("SecretName"))}
    names.add(CHART["jwtSecretName"])
    [reference] = yaml.safe_load(CHART["extraEnvFrom"])
    assert names | {reference["secretRef"]["name"]} == set(secrets())


def spark_properties(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, str]:
    """What a worker with this configuration would hand to spark-submit."""
    [config] = [manifest for manifest in ALL if manifest["kind"] == "ConfigMap"]
    for name, text in config["data"].items():
        (folder / name).write_text(text)
    monkeypatch.setenv("SPARK_CONF_DIR", str(folder))
    return settings.driver_properties(
        "k8s://https://kubernetes.default.svc", None, jars=[], short_lived=False, others={}
    )


def test_the_driver_keeps_the_settings_for_correctness_and_security(monkeypatch, tmp_path) -> None:
    properties = spark_properties(monkeypatch, tmp_path)
    assert properties["spark.authenticate"] == properties["spark.network.crypto.enabled"] == "true"
    assert properties["spark.speculation"] == "false"
    assert properties["spark.sql.session.timeZone"] == "UTC"
    assert properties["spark.kubernetes.container.image"].endswith(f":{pinned('pyspark')}")
    assert settings.authentication_problem("k8s://https://kubernetes.default.svc") is None


def test_the_pods_of_two_drivers_have_different_names(monkeypatch, tmp_path) -> None:
    """Spark generates a prefix for each application unless one is set."""
    assert "spark.kubernetes.executor.podNamePrefix" not in spark_properties(monkeypatch, tmp_path)


def pinned(package: str) -> str:
    [version] = re.findall(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return version


def test_executors_have_an_account_and_the_driver_may_create_their_pods(monkeypatch, tmp_path) -> None:
    properties = spark_properties(monkeypatch, tmp_path)
    accounts = {manifest["metadata"]["name"] for manifest in ALL if manifest["kind"] == "ServiceAccount"}
    assert properties["spark.kubernetes.authenticate.executor.serviceAccountName"] in accounts
    [binding] = [manifest for manifest in ALL if manifest["kind"] == "RoleBinding"]
    [subject] = binding["subjects"]
    assert subject["name"] == CHART["workers"]["serviceAccount"]["name"]
    assert subject["namespace"] == properties["spark.kubernetes.namespace"]
    [role] = [
        manifest
        for manifest in ALL
        if manifest["kind"] == "Role" and manifest["metadata"]["name"] == binding["roleRef"]["name"]
    ]
    rights = {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}
    assert rights["pods"] >= {"create", "delete", "get", "list", "watch"}
    assert rights["configmaps"] >= {"create", "delete"}


def test_the_worker_mounts_the_configuration_of_spark_where_it_is_read() -> None:
    workers = CHART["workers"]
    [mount], [volume] = workers["extraVolumeMounts"], workers["extraVolumes"]
    variables = {variable["name"]: variable for variable in workers["env"]}
    assert variables["SPARK_CONF_DIR"]["value"] == mount["mountPath"]
    assert volume["configMap"]["name"] in {
        manifest["metadata"]["name"] for manifest in ALL if manifest["kind"] == "ConfigMap"
    }
    assert "SPARK_CONF_DIR" in Path(installation.__file__).read_text()


# Pods by name, each with its labels.
AIRFLOW = {
    name: {"tier": "airflow", "component": name}
    for name in ("scheduler", "api-server", "dag-processor", "triggerer", "worker", "redis")
}
PODS = {**AIRFLOW, "executor": {"spark-role": "executor"}, "other": {"app": "other"}}

PERMITTED = [
    ("worker", STORES, 9042), ("worker", STORES, 3306), ("worker", STORES, 9092), ("worker", STORES, 5432),
    ("worker", "api-server", 8080), ("worker", "redis", 6379), ("worker", "executor", 7300), ("worker", "172.20.0.1", 443),
    ("executor", "worker", 7100), ("executor", "worker", 7115), ("executor", "worker", 7200), ("executor", "executor", 7301),
    ("executor", STORES, 9042), ("executor", STORES, 3306), ("triggerer", STORES, 9042), ("triggerer", "api-server", 8080),
    ("scheduler", "redis", 6379), ("scheduler", STORES, 5432), ("scheduler", "api-server", 8080),
    ("dag-processor", STORES, 5432), ("dag-processor", "api-server", 8080), ("api-server", STORES, 3306),
    ("api-server", "worker", 8793), ("api-server", "triggerer", 8794),
    *((source, OUTSIDE, port) for source in ("dag-processor", "worker") for port in (443, 587, 465, 25)),  # alert channels
]  # fmt: skip
REFUSED = [
    ("other", "worker", 7100), ("other", "executor", 7300), ("other", "redis", 6379), ("other", STORES, 3306),
    ("executor", STORES, 9092), ("executor", STORES, 5432), ("executor", "api-server", 8080), ("executor", "172.20.0.1", 443),
    ("executor", "redis", 6379), ("worker", OUTSIDE, 80), ("worker", OUTSIDE, 3306),
    ("scheduler", STORES, 3306), ("scheduler", STORES, 9042), ("triggerer", STORES, 9092), ("triggerer", STORES, 3306),
    ("triggerer", "redis", 6379), ("api-server", STORES, 9042), ("api-server", "redis", 6379),
    ("scheduler", "worker", 7100), ("executor", "worker", 7116), ("dag-processor", STORES, 3306),
    ("dag-processor", STORES, 9042), ("dag-processor", "redis", 6379), ("dag-processor", OUTSIDE, 80),
    *((source, OUTSIDE, 587) for source in ("scheduler", "api-server", "triggerer", "executor", "other")),
]  # fmt: skip


def may_connect(source: str, target: str, port: int, *, task_pods: bool = False) -> bool:
    """Whether the policies allow a pod to open a connection to another pod, or to an address."""
    policies = [
        manifest["spec"]
        for manifest in ALL
        if manifest["kind"] == "NetworkPolicy"
        and (task_pods or manifest["metadata"]["name"] not in ONLY_WITH_PODS_FOR_TASKS)
    ]
    leaves = any(
        _permits(policy.get("egress", []), "to", target, port) for policy in policies if _is_for(policy, source)
    )
    if target not in PODS:
        return leaves
    arrives = any(
        _permits(policy.get("ingress", []), "from", source, port) for policy in policies if _is_for(policy, target)
    )
    return leaves and arrives


def _is_for(policy: dict, pod: str) -> bool:
    return _selects(policy["podSelector"], PODS[pod])


def _selects(selector: dict, labels: dict[str, str]) -> bool:
    by_label = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return by_label and all(
        labels.get(expression["key"]) in expression["values"] for expression in selector.get("matchExpressions", [])
    )


def _permits(rules: list[dict], side: str, peer: str, port: int) -> bool:
    return any(
        any(port_range["port"] <= port <= port_range.get("endPort", port_range["port"]) for port_range in rule["ports"])
        and (side not in rule or any(_is_peer(rule_peer, peer) for rule_peer in rule[side]))
        for rule in rules
    )


def _is_peer(selector: dict, peer: str) -> bool:
    if "ipBlock" in selector:
        return peer not in PODS and ip_address(peer) in ip_network(selector["ipBlock"]["cidr"])
    return "podSelector" in selector and peer in PODS and _selects(selector["podSelector"], PODS[peer])


@pytest.mark.parametrize(("source", "target", "port"), PERMITTED)
def test_what_the_pipelines_need_is_permitted(source: str, target: str, port: int) -> None:
    assert may_connect(source, target, port)


@pytest.mark.parametrize("source", ["scheduler", "api-server"])
def test_kubernetes_api_is_reachable_if_tasks_run_in_pods(source: str) -> None:
    assert not may_connect(source, "172.20.0.1", 443)
    assert may_connect(source, "172.20.0.1", 443, task_pods=True)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED)
def test_what_no_pipeline_needs_is_refused(source: str, target: str, port: int) -> None:
    assert not may_connect(source, target, port)


def test_policies_permit_the_ports_that_spark_is_given(monkeypatch, tmp_path) -> None:
    properties = spark_properties(monkeypatch, tmp_path)
    tries = int(properties["spark.port.maxRetries"])
    for name in ("spark.driver.port", "spark.driver.blockManager.port"):
        first = int(properties[name])
        assert may_connect("executor", "worker", first) and may_connect("executor", "worker", first + tries)
    first = int(properties["spark.blockManager.port"])
    assert may_connect("worker", "executor", first + tries) and may_connect("executor", "executor", first)


def test_the_port_ranges_of_spark_do_not_overlap(monkeypatch, tmp_path) -> None:
    """Otherwise a driver could take the port that another driver's block manager needs."""
    properties = spark_properties(monkeypatch, tmp_path)
    tries = int(properties["spark.port.maxRetries"])
    firsts = sorted(int(properties[name]) for name in properties if name.endswith(".port"))
    assert all(later - earlier > tries for earlier, later in zip(firsts, firsts[1:], strict=False))
