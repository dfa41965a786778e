"""A deployment as Kubernetes manifests: worker, storage, server, and how it is reached inside."""

from __future__ import annotations

from typing import Any

import yaml

from console.planning.render.serving import PORTS, Serving

_CLAIM = "10Gi"


def render(serving: Serving) -> str:
    """ConfigMap, PersistentVolumeClaim, Deployment and Service, one document each.

    The token is a Secret that the manifests name and do not hold.
    """
    name = serving.name
    token = (
        f"kubectl create secret generic {name}-token --from-literal=token=$(openssl rand -hex 24)"
    )
    head = serving.head(
        f"The token, once: {token}",
        f"The models: copy {serving.values['repository']}/. to the root of the volume {name}-models "
        "(kubectl cp, through any pod that mounts it)",
        f"From your own machine: kubectl port-forward service/{name} 8000 8001 8002",
        *serving.derived(),
    )
    documents = [_worker(serving), _claim(serving), _deployment(serving), _service(serving)]
    # A folder of width 100 would break the worker's lines, which are a literal block.
    return head + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True
    )


class _Dumper(yaml.SafeDumper):
    """`safe_dump`, with text of several lines as a literal block, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _meta(serving: Serving, suffix: str = "") -> dict[str, Any]:
    return {"name": serving.name + suffix, "labels": _labels(serving)}


def _labels(serving: Serving) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "triton",
        "app.kubernetes.io/instance": serving.name,
        "app.kubernetes.io/managed-by": "tritondeck",
    }


def _selector(serving: Serving) -> dict[str, str]:
    return {k: v for k, v in _labels(serving).items() if not k.endswith("managed-by")}


def _worker(serving: Serving) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(serving, "-worker"),
        "data": {"triton_server.py": serving.worker},
    }


def _claim(serving: Serving) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _meta(serving, "-models"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": _CLAIM}},
        },
    }


def _deployment(serving: Serving) -> dict[str, Any]:
    uid, gid = serving.ids
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(serving),
        "spec": {
            "replicas": 1,
            # Two pods would want the same GPUs and the same volume.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _selector(serving)},
            "template": {
                "metadata": {"labels": _labels(serving)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": round(serving.service.stop_timeout),
                    "securityContext": {
                        # Root of this machine is nobody of a cluster: the images have user 1000.
                        "runAsNonRoot": True,
                        "runAsUser": uid or 1000,
                        "runAsGroup": gid or 1000,
                        "fsGroup": gid or 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(serving)],
                    "volumes": _volumes(serving),
                },
            },
        },
    }


def _container(serving: Serving) -> dict[str, Any]:
    box = serving.container
    models, worker, token = (mount.target for mount in box.mounts[:3])
    http = box.ports[0].container
    made: dict[str, Any] = {
        "name": "triton",
        "image": serving.image.tag,
        "args": [_escaped(word) for word in serving.words],
        "ports": [
            {"name": name, "containerPort": port.container}
            for name, port in zip(PORTS, box.ports, strict=True)
        ],
        "securityContext": {
            "allowPrivilegeEscalation": not box.no_new_privileges,
            "readOnlyRootFilesystem": box.read_only,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": models, "readOnly": True},
            {
                "name": "worker",
                "mountPath": worker,
                "subPath": "triton_server.py",
                "readOnly": True,
            },
            {"name": "token", "mountPath": token, "subPath": "token", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
            *(
                {"name": f"data-{number}", "mountPath": target, "readOnly": True}
                for number, (_, target) in enumerate(serving.data)
            ),
        ],
        # Triton answers nothing before the models that it starts with are loaded.
        "startupProbe": {
            **_probe("/v2/health/live", http, period=5),
            "failureThreshold": max(3, -(-serving.start_limit // 5)),
        },
        "livenessProbe": _probe("/v2/health/live", http, period=10),
        "readinessProbe": _probe("/v2/health/ready", http, period=5),
    }
    limits: dict[str, Any] = {}
    if serving.gpus:
        limits["nvidia.com/gpu"] = max(1, serving.gpus)
    if box.memory:
        limits["memory"] = _quantity(box.memory)
    if limits:
        made["resources"] = {"limits": limits}
    if serving.command.env:
        items = serving.command.env.items()
        made["env"] = [{"name": k, "value": _escaped(serving.filled(v))} for k, v in items]
    return made


def _escaped(word: str) -> str:
    """Kubernetes fills in ``$(NAME)``; ``$$(`` is one that it leaves alone."""
    return word.replace("$(", "$$(")


def _probe(path: str, port: int, period: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
    }


def _volumes(serving: Serving) -> list[dict[str, Any]]:
    name = serving.name
    return [
        {"name": "models", "persistentVolumeClaim": {"claimName": f"{name}-models"}},
        {"name": "worker", "configMap": {"name": f"{name}-worker"}},
        {"name": "token", "secret": {"secretName": f"{name}-token", "defaultMode": 0o440}},
        {
            "name": "shm",
            "emptyDir": {
                "medium": "Memory",
                "sizeLimit": _quantity(serving.container.shm_size or "64m"),
            },
        },
        {"name": "tmp", "emptyDir": {}},
        *(
            # Folders of this machine: the node must have them at the same paths.
            {"name": f"data-{number}", "hostPath": {"path": source, "type": "Directory"}}
            for number, (source, _) in enumerate(serving.data)
        ),
    ]


def _quantity(size: str) -> str:
    """Docker's ``1g`` as Kubernetes' ``1Gi``."""
    units = {"k": "Ki", "m": "Mi", "g": "Gi", "b": ""}
    return size[:-1] + units[size[-1]] if size[-1] in units else size


def _service(serving: Serving) -> dict[str, Any]:
    ports = zip(PORTS.items(), serving.container.ports, strict=True)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(serving),
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(serving),
            "ports": [
                {"name": name, "port": number, "targetPort": port.container}
                for (name, number), port in ports
            ],
        },
    }
