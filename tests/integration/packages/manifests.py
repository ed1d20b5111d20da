"""Checks conf/kubernetes, the Helm chart and compose.yaml with the tools that read them: kubectl's kustomize, Helm's engine,
the schemas of Kubernetes and of the Prometheus operator, and Docker Compose. `kubernetes.rs` installs and starts it.

    manifests.py ROOT TOOLS CONFIG    # the root of the tree, the folder of the tools, a file for the rendered icm.yaml
"""

import copy
import json
import pathlib
import re
import subprocess
import sys

import helm_python
import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

ROOT, TOOLS, CONFIG = map(pathlib.Path, sys.argv[1:])
CHART = ROOT / "conf/helm/domino-icm"
# The oldest version that the chart admits, and the newest schema that there is.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]


def tool(name, *arguments):
    ran = subprocess.run([TOOLS / "bin" / name, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{name}: {ran.stderr}"
    return ran.stdout


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def render(values, name="domino-icm"):
    with helm_python.Chart.load(str(CHART)) as chart:
        rendered = chart.render(values, name=name, namespace="domino-icm")
    return [doc for file, text in rendered.items() if file.endswith(".yaml") for doc in documents(text)]


def refused(values, reason):
    try:
        render(values)
    except helm_python.HelmError as error:
        assert reason in str(error), f"{reason!r} is not in: {error}"
        return
    raise AssertionError(f"these values were accepted: {values}")


def strict(schema):
    """The API server removes fields that it does not know; a field in these files that it would remove is a mistake."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)
    return schema


SERVICE_MONITOR = strict(ServiceMonitor.model_json_schema(by_alias=True))


def validate(document):
    if document["kind"] == "ServiceMonitor":
        jsonschema.validate(document, SERVICE_MONITOR)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def is_restricted(pod):
    """The level "restricted" of the Pod Security Standards, as far as these pods touch it."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] > 0, context
    assert context["seccompProfile"]["type"] == "RuntimeDefault", context
    for key in ["hostNetwork", "hostPID", "hostIPC"]:
        assert not pod.get(key), key
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, context
        assert context["capabilities"] == {"drop": ["ALL"]}, context
        assert context["readOnlyRootFilesystem"] is True, context
        for port in container.get("ports", []):
            assert "hostPort" not in port, port
            assert port["containerPort"] > 1023, port
    allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod["volumes"]:
        assert set(volume) <= allowed, volume


def one(all_documents, kind, name=None):
    found = [d for d in all_documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[d['metadata']['name'] for d in found]}"
    return found[0]


def selects(selector, labels):
    return selector.items() <= labels.items()


def belongs_together(all_documents):
    """What no schema sees: selectors, ports and times that refer to each other."""
    deployment = one(all_documents, "Deployment")
    name = deployment["metadata"]["name"]
    template = deployment["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    is_restricted(pod)
    assert deployment["spec"]["replicas"] >= 2
    assert selects(deployment["spec"]["selector"]["matchLabels"], labels)
    icm = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in icm["ports"]}
    for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
        assert icm[probe]["httpGet"]["path"] == path and icm[probe]["httpGet"]["port"] == "admin", icm[probe]

    budget = one(all_documents, "PodDisruptionBudget")
    assert selects(budget["spec"]["selector"]["matchLabels"], labels)
    for service in [name, f"{name}-admin"]:
        service = one(all_documents, "Service", service)
        assert selects(service["spec"]["selector"], labels), service
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, port
    admin = one(all_documents, "Service", f"{name}-admin")
    for monitor in (d for d in all_documents if d["kind"] == "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        chosen = [d["metadata"]["name"] for d in all_documents if d["kind"] == "Service" and selects(wanted, d["metadata"]["labels"])]
        assert chosen == [admin["metadata"]["name"]], chosen
        assert admin["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "icm"
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in [port["name"] for port in admin["spec"]["ports"]], endpoint
    for policy in (d for d in all_documents if d["kind"] == "NetworkPolicy"):
        assert selects(policy["spec"]["podSelector"]["matchLabels"], labels)

    text = one(all_documents, "ConfigMap")["data"]["icm.yaml"]
    settings = yaml.safe_load(text)
    listeners = {int(listener["address"].rsplit(":", 1)[1]) for listener in settings["listeners"]}
    admin_port = int(settings["admin"]["address"].rsplit(":", 1)[1])
    assert {port for name, port in ports.items() if name != "admin"} <= listeners
    assert ports["admin"] == admin_port
    grace = settings.get("pingora", {}).get("grace_period_seconds", 75)
    wait = icm["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= grace + wait, (grace, wait)
    return text


def comparable(all_documents):
    """Without what only Helm or only kustomize adds, by kind and name."""
    result = {}
    for document in all_documents:
        if "helm.sh/hook" in document["metadata"].get("annotations", {}):
            continue
        document = copy.deepcopy(document)
        metadata = document["metadata"]
        metadata.pop("namespace", None)
        for label in ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"]:
            metadata["labels"].pop(label, None)
        if document["kind"] == "Deployment":
            document["spec"]["template"]["metadata"].pop("annotations", None)
        text = json.dumps(document)
        # The hash of a generated ConfigMap.
        document = json.loads(re.sub(r'"domino-icm-[a-z0-9]{10}"', '"domino-icm"', text))
        if document["kind"] == "ConfigMap":
            # Helm indents empty lines, too.
            lines = document["data"]["icm.yaml"].strip().splitlines()
            document["data"]["icm.yaml"] = [line.rstrip() for line in lines]
        result[f"{document['kind']}/{document['metadata']['name']}"] = document
    return result


def the_manifests_and_the_chart_are_valid_and_equal():
    values = yaml.safe_load((CHART / "ci/kubernetes-values.yaml").read_text())
    plain, chart = documents(tool("kubectl", "kustomize", str(ROOT / "conf/kubernetes"))), render(values)
    for document in plain + chart:
        validate(document)
    CONFIG.write_text(belongs_together(plain))
    belongs_together(chart)
    is_restricted(one(chart, "Pod")["spec"])
    plain, chart = comparable(plain), comparable(chart)
    assert plain.keys() == chart.keys(), (plain.keys(), chart.keys())
    for name in plain:
        assert plain[name] == chart[name], f"{name}\nkustomize: {json.dumps(plain[name], sort_keys=True)}\nchart:     {json.dumps(chart[name], sort_keys=True)}"


def other_values_render_too():
    config = {
        "pingora": {"grace_period_seconds": 200},
        "listeners": [{"address": "0.0.0.0:8080", "redirect_to_https": True}, {"address": "[::]:8443", "tls": {}}],
        "admin": {"address": "0.0.0.0:9000", "token_file": "/etc/icm/token", "tls": {"cert": "a", "key": "b"}},
    }
    values = {
        "config": config,
        "replicaCount": 3,
        "image": {"repository": "registry.example.com/icm", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "pull"}],
        "admin": {"port": 9000},
        "secrets": [{"name": "tls", "items": [{"key": "tls.crt", "path": "tls/icm.pem"}]}],
        "service": {
            "type": "ClusterIP",
            "annotations": {"a": "b"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443, "targetPort": 8443}],
        },
        "networkPolicy": {
            "enabled": True,
            "servers": [{"cidr": "192.0.2.0/24", "ports": [80, 443]}],
            "monitoringNamespace": "",
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "198.51.100.1/32"}}]}],
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tlsConfig": {"serverName": "icm.acme.example"}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "notes"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "extraVolumes": [{"name": "pages", "configMap": {"name": "pages"}}],
        "extraVolumeMounts": [{"name": "pages", "mountPath": "/etc/pages"}],
        "nameOverride": "icm",
    }
    all_documents = render(values, name="web")
    for document in all_documents:
        validate(document)
    belongs_together(all_documents)
    deployment = one(all_documents, "Deployment", "web-icm")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 215
    assert pod["containers"][0]["image"] == "registry.example.com/icm:1.2.3"
    assert pod["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert one(all_documents, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"

    # Another configuration makes other pods, another number of pods does not.
    def pods(values):
        return one(render(values, name="web"), "Deployment")["spec"]["template"]

    changed = copy.deepcopy(values)
    changed["config"]["limits"] = {"connections": 10}
    assert pods(changed) != pods(values)
    assert pods({**values, "replicaCount": 4}) == pods(values)


def wrong_values_are_refused_with_the_reason():
    listener = "listeners: [{address: '0.0.0.0:8080'}]\n"
    refused({}, "--set-file config=icm.yaml")
    refused({"config": listener}, "0.0.0.0:8098")
    refused({"config": listener + "admin: {address: '127.0.0.1:8098'}"}, "0.0.0.0:8098")
    refused({"config": "listeners: [{address: '0.0.0.0:80'}]\nadmin: {address: '0.0.0.0:8098'}"}, "8080")
    refused({"config": "listeners: ["}, "config is not YAML")
    refused({"config": listener, "replicas": 3}, "replicas")
    refused({"config": listener, "service": {"type": "Loadbalancer"}}, "type")


def lint_finds_nothing():
    report = helm_python.lint(str(CHART), values=yaml.safe_load((CHART / "ci/kubernetes-values.yaml").read_text()))
    assert not report["errors"], report
    # 1 is information, such as a recommended icon.
    assert all(message["severity"] <= 1 for message in report["messages"]), report


def versions_agree():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version and chart["version"] == version, chart
    for path in ["conf/kubernetes/kustomization.yaml", "conf/container/compose.yaml"]:
        tags = re.findall(r"(?:newTag: |localhost/[a-z-]+:)([0-9][^ }\"]*)", (ROOT / path).read_text())
        assert tags and set(tags) == {version}, (path, tags)


def docker_compose_reads_the_compose_file():
    text = tool("docker-compose", "-f", str(ROOT / "conf/container/compose.yaml"), "config", "--format", "json")
    services = json.loads(text)["services"]
    assert set(services) == {"acme", "icm1", "icm2"}, services.keys()
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for service in [services["icm1"], services["icm2"]]:
        assert service["healthcheck"]["test"][1:4] == ["/usr/bin/icm", "check", "--running"], service
        assert service["stop_grace_period"] == "1m30s", service
        for port in service["ports"]:
            assert port["target"] == 8080 or port["host_ip"] == "127.0.0.1", port
    first, second = (json.dumps(services[name]["volumes"]) for name in ["icm1", "icm2"])
    assert first.replace("icm1-state", "icm2-state") == second


for check in [
    the_manifests_and_the_chart_are_valid_and_equal,
    other_values_render_too,
    wrong_values_are_refused_with_the_reason,
    lint_finds_nothing,
    versions_agree,
    docker_compose_reads_the_compose_file,
]:
    check()
    print(check.__name__, flush=True)
