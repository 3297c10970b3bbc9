"""Kubernetes and KServe: manifests against the published schemas, and that their parts find one another."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

import automm

SCHEMAS = {
    "Deployment": "deployment-apps-v1",
    "Service": "service-v1",
    "HorizontalPodAutoscaler": "horizontalpodautoscaler-autoscaling-v2",
    "PodMonitor": "podmonitor-monitoring-v1",
    "ServingRuntime": "servingruntime-serving-v1alpha1",
    "InferenceService": "inferenceservice-serving-v1beta1",
}
DNS = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"


def schema(kind: str) -> dict:
    path = Path(__file__).parent / "schemas" / f"{SCHEMAS[kind]}.json"
    return json.loads(path.read_text("utf-8"))


def validate(document: dict) -> None:
    jsonschema.Draft202012Validator(schema(document["kind"])).validate(document)


def manifests(folder: Path) -> dict[str, dict]:
    files = [
        path for path in folder.rglob("*.yaml") if "package" not in path.parts and path.name != "kustomization.yaml"
    ]
    documents = [document for path in files for document in yaml.safe_load_all(path.read_text("utf-8"))]
    return {document["kind"]: document for document in documents}


@pytest.fixture
def kubernetes(export):
    return manifests(export("kubernetes"))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("kubernetes", {"Deployment", "Service", "HorizontalPodAutoscaler", "PodMonitor"}),
        ("kserve", {"ServingRuntime", "InferenceService"}),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [{}, {"namespace": "shop", "image": "r.example/a/b:1", "replicas": 1, "cpu": "500m", "memory": "2Gi", "queue": 3}],
    ids=["defaults", "all set"],
)
def test_manifests_hold_the_published_schemas(name, kinds, settings, export):
    found = manifests(export(name, **settings))
    assert found.keys() == kinds
    for document in found.values():
        validate(document)
        assert document["metadata"].get("namespace", "") == settings.get("namespace", "")


def test_schemas_refuse_what_the_api_server_would(kubernetes):
    def spoiled(kind, change):
        document = json.loads(json.dumps(kubernetes[kind]))
        change(document)
        with pytest.raises(jsonschema.ValidationError):
            validate(document)

    spoiled("Deployment", lambda one: one["spec"].pop("selector"))
    spoiled("Deployment", lambda one: one["spec"]["template"]["spec"].update(runAsNonRoot=True))
    spoiled("Deployment", lambda one: one["spec"]["template"]["spec"]["containers"][0].update(port=80))
    spoiled(
        "Deployment", lambda one: one["spec"]["template"]["spec"]["containers"][0]["securityContext"].update(drop=[])
    )
    spoiled("Service", lambda one: one["spec"]["ports"][0].update(port="80"))
    spoiled("HorizontalPodAutoscaler", lambda one: one["spec"].pop("maxReplicas"))
    spoiled("HorizontalPodAutoscaler", lambda one: one["spec"]["metrics"][0]["pods"].pop("target"))
    spoiled("PodMonitor", lambda one: one["spec"].update(endpoints=[]))
    spoiled("PodMonitor", lambda one: one["spec"]["podMetricsEndpoints"][0].update(interval="often"))


def test_parts_find_one_another(kubernetes, shop):
    deployment, service = kubernetes["Deployment"], kubernetes["Service"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for chosen in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert chosen
        assert chosen.items() <= labels.items()
    monitor = kubernetes["PodMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    assert [(one["port"], one["path"]) for one in monitor["podMetricsEndpoints"]] == [("http", "/metrics")]
    assert ports == {"http": 8080}
    assert container["args"][container["args"].index("--port") + 1] == "8080"
    scaled = kubernetes["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"],
    }  # fmt: skip
    assert "replicas" not in deployment["spec"]  # an `apply` must not undo the autoscaler
    digest = automm.load(shop).package.digest
    assert container["image"] == f"small-shop:{digest[:12]}"


def test_pods_are_confined_and_probed(kubernetes):
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/v2/health/live", "liveness": "/v2/health/live", "readiness": "/v2/health/ready"}
    assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys() == {"cpu", "memory"}
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable == {"/tmp"}
    assert pod["terminationGracePeriodSeconds"] == 60


def test_settings_reach_the_manifests(export):
    found = manifests(export("kubernetes", replicas=3, max_replicas=7, queue=20, cpu="2500m", memory="2Gi"))
    spec = found["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 7)
    assert spec["metrics"][0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "20"}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2500m", "memory": "2Gi"}
    assert container["args"][container["args"].index("--threads") + 1] == "3"


def test_autoscaler_reads_a_gauge_that_the_server_has(kubernetes, export):
    metrics = pytest.importorskip("automm.serve.metrics")
    name = kubernetes["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f"# TYPE {name} gauge" in metrics.Metrics().text().decode()


def test_image_and_kustomization_come_along(export):
    folder = export("kubernetes")
    automm.load(folder / "image" / "package")
    assert (folder / "image" / "Dockerfile").exists()
    listed = yaml.safe_load((folder / "manifests" / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in (folder / "manifests").iterdir()}
    rule = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (folder / "README.md").read_text(), re.S)[1])["rules"][0]
    assert rule["seriesQuery"].startswith("automm_queue_rows{")
    assert rule["resources"]["overrides"]["pod"] == {"resource": "pod"}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Ünïcode Shop 42!", "n-code-shop-42"),
        ("42", "model-42"),
        ("___", "model"),
        ("a" * 99, "a" * 40),
        ("x-" * 30, None),
    ],
)
def test_any_name_becomes_a_dns_label(name, label, shop, tmp_path, export):
    package = Path(shutil.copytree(shop, tmp_path / "named"))
    manifest = json.loads((package / "automm.json").read_text("utf-8"))
    (package / "automm.json").write_text(json.dumps({**manifest, "name": name}), "utf-8")
    for kind, document in manifests(export("kubernetes", package)).items():
        validate(document)
        found = document["metadata"]["name"]
        assert re.fullmatch(DNS, found), kind
        assert label in (None, found)


def test_kserve_runtime_and_service_fit(export):
    folder = export("kserve", storage="s3://models/shop", queue=5)
    found = manifests(folder)
    runtime, service = found["ServingRuntime"], found["InferenceService"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["storageUri"] == "s3://models/shop"
    formats = runtime["spec"]["supportedModelFormats"]
    assert (formats[0]["name"], formats[0]["version"]) == (
        model["modelFormat"]["name"],
        model["modelFormat"]["version"],
    )
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"] == ["v2"]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert service["spec"]["predictor"]["securityContext"]["runAsNonRoot"] is True
    assert service["spec"]["predictor"]["scaleTarget"] == 5
    assert any("/mnt/models" in word for word in container["args"])
    automm.load(folder / "package")
    text = (folder / "image" / "Dockerfile").read_text()  # one runtime for many packages: none inside
    assert "package" not in text.partition("\n")[2]
    assert not (folder / "image" / "package").exists()


def test_kserve_storage_has_a_known_scheme(export):
    with pytest.raises(ValueError, match="String should match pattern"):
        export("kserve", storage="/srv/models")
