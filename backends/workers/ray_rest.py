"""What a worker says to a Ray cluster's head, and what it sees there: Ray's own REST interfaces.

Standard library only; imports nothing of tritondeck. Jobs (``/api/jobs/``), packages
(``/api/packages/``), nodes (``/nodes``), Serve (``/api/serve/applications/``) and scaling
(``/api/v1/applications/…``), as Ray 2.60 has them.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import shlex
import ssl
import time
import zipfile
from pathlib import Path
from urllib.parse import quote, urlsplit

EX_SOFTWARE = 70
EX_CONFIG = 78
BODY_CAP = 32 << 20
JOB_STOP = 30.0
OVER = ("STOPPED", "SUCCEEDED", "FAILED")
FOLLOWED = "tritondeck"  # key of a job's metadata that says which command line it is of
OF = "tritondeck-application"  # and which application


class CannotServe(Exception):
    """It cannot work here, or not any more: what is wrong, what helps, and the exit code."""

    def __init__(self, reason, fix, code=EX_CONFIG):
        super().__init__(reason)
        self.fix = fix
        self.code = code


class Unreachable(CannotServe):
    """The head does not answer."""


class Ray:
    """The head's dashboard. Every answer is bounded; no proxy is used and no redirect followed."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CannotServe(f"{url!r} is not the address of a head", "write http://HOST:8265")
        self.parts = parts

    def _connection(self, timeout):
        host, port = self.parts.hostname, self.parts.port
        if self.parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, port or 8265, timeout=timeout)

    def call(self, method, path, body=None, timeout=20.0):
        """Status and text. `Unreachable` when nothing answers, `CannotServe` for a refused token."""
        headers = {"Connection": "close", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connection(timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read(BODY_CAP).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"the head at {self.url} does not answer: {error or type(error).__name__}",
                "check that it runs with a dashboard, and its address",
                EX_SOFTWARE,
            ) from error
        finally:
            connection.close()
        if answer.status in (401, 403):
            raise CannotServe(
                f"the head refuses the token: {text[:200]}",
                "name the cluster's token as token_env or token_file",
            )
        return answer.status, text

    def told(self, method, path, body=None):
        """The JSON of an answer that must be 200."""
        status, text = self.call(method, path, body)
        if status == 503:
            # What stands behind the dashboard does not answer it for the moment.
            raise Unreachable(f"{path}: {last_line(text)}", "read the head's own log", EX_SOFTWARE)
        if status != 200:
            raise CannotServe(
                f"{method} {path}: HTTP {status} {last_line(text)}",
                "read the head's own log",
                EX_SOFTWARE,
            )
        try:
            return json.loads(text or "null")
        except ValueError as error:
            raise self.foreign(f"{path} is answered with no JSON") from error

    def foreign(self, why):
        return CannotServe(
            f"{self.url} is no head's dashboard: {why}",
            "write the address of Ray's dashboard, http://HOST:8265",
        )

    def version(self):
        """Ray's version; everything else is asked after it."""
        told = self.told("GET", "/api/version")
        if not isinstance(told, dict) or "ray_version" not in told:
            raise self.foreign("/api/version does not tell Ray's version")
        return str(told["ray_version"])

    def nodes(self):
        """Every node: id, address, state, what it has and what it uses."""
        found = []
        for one in self.told("GET", "/nodes?view=summary")["data"]["summary"]:
            raylet = one.get("raylet", {})
            total = raylet.get("resourcesTotal", {})
            memory = one.get("mem") or [0, 0, 0, 0]
            found.append(
                {
                    "id": raylet.get("nodeId", ""),
                    "address": raylet.get("nodeManagerAddress") or one.get("ip", ""),
                    "hostname": one.get("hostname", ""),
                    "state": raylet.get("state", ""),
                    "head": bool(raylet.get("isHeadNode")),
                    "cpus": total.get("CPU", 0.0),
                    "gpus": total.get("GPU", 0.0),
                    "cpu_percent": one.get("cpu"),
                    "memory_used": memory[3] if len(memory) > 3 else 0,
                    "memory_total": memory[0],
                    "gpu_percent": [
                        gpu.get("utilizationGpu", gpu.get("utilization_gpu"))
                        for gpu in one.get("gpus") or []
                    ],
                }
            )
        return found

    def serve(self):
        """What Serve says of itself."""
        return self.told("GET", "/api/serve/applications/")

    def jobs(self, application):
        """Jobs that a follower has submitted for this application."""
        found = self.told("GET", "/api/jobs/")
        return [one for one in found if (one.get("metadata") or {}).get(OF) == application]

    def job(self, submission):
        """The job, or None where there is none."""
        status, text = self.call("GET", f"/api/jobs/{quote(submission, safe='')}")
        return json.loads(text) if status == 200 else None

    def job_log(self, submission):
        status, text = self.call("GET", f"/api/jobs/{quote(submission, safe='')}/logs")
        return str(json.loads(text).get("logs") or "") if status == 200 else ""

    def upload(self, files):
        """A package of `files`, unless the cluster has it; its URI."""
        content = package(files)
        name = f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:16]}.zip"
        place = f"/api/packages/gcs/{name}"
        if self.call("GET", place)[0] != 200:
            self.told("PUT", place, content)
        return f"gcs://{name}"

    def submit(self, submission, application, words, files, mark):
        body = {
            # Ray gives it to a shell.
            "entrypoint": shlex.join(words),
            "submission_id": submission,
            "metadata": {FOLLOWED: mark, OF: application},
            "runtime_env": {
                "env_vars": {
                    "HF_HUB_OFFLINE": "1",
                    "TRANSFORMERS_OFFLINE": "1",
                    "RAY_COLOR_PREFIX": "0",
                }
            },
        }
        if files:
            body["runtime_env"]["working_dir"] = self.upload(files)
        self.told("POST", "/api/jobs/", json.dumps(body).encode())

    def end(self, submission):
        """Stop a job and wait for its end."""
        self.call("POST", f"/api/jobs/{quote(submission, safe='')}/stop")
        until = time.monotonic() + JOB_STOP
        while (job := self.job(submission)) and job["status"] not in OVER:
            if time.monotonic() > until:
                raise CannotServe(
                    f"the job {submission} did not stop within {JOB_STOP:g} s",
                    "look at it in Ray's dashboard",
                    EX_SOFTWARE,
                )
            time.sleep(0.2)

    def forget(self, submission):
        self.call("DELETE", f"/api/jobs/{quote(submission, safe='')}")

    def scale(self, application, deployment, replicas):
        """An empty text, or why it is not done."""
        path = f"/api/v1/applications/{quote(application, safe='')}"
        path += f"/deployments/{quote(deployment, safe='')}/scale"
        body = json.dumps({"target_num_replicas": replicas}).encode()
        status, text = self.call("POST", path, body)
        if status == 200:
            return ""
        if status == 412:
            return "the application was not deployed for scaling: change num_replicas, deploy again"
        if status == 404 and "not found" not in text:
            return "this cluster's Ray has no interface for scaling: change num_replicas"
        return f"HTTP {status} {last_line(text)}"


def package(files):
    """A zip with the same bytes whenever the files are the same."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for file in files:
            info = zipfile.ZipInfo(Path(file).name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, Path(file).read_bytes())
    return made.getvalue()


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else ""


# ---------------------------------------------------------------------------- what is seen


def seen(ray, name):
    """Nodes and the application as they are now."""
    served = ray.serve()
    application = (served.get("applications") or {}).get(name)
    return {
        "time": time.time(),
        "nodes": ray.nodes(),
        "http": served.get("http_options"),
        "application": summary(application) if application else None,
        "others": sorted(n for n in served.get("applications") or {} if n != name),
    }


def summary(application):
    return {
        "status": application.get("status", ""),
        "message": last_line(application.get("message") or ""),
        "deployments": [
            {
                "name": name,
                "status": one.get("status", ""),
                "message": last_line(one.get("message") or ""),
                "target": one.get("target_num_replicas"),
                "replicas": [
                    {
                        "id": replica.get("replica_id", ""),
                        "state": replica.get("state", ""),
                        "node": replica.get("node_ip") or "",
                    }
                    for replica in one.get("replicas") or []
                ],
            }
            for name, one in (application.get("deployments") or {}).items()
        ],
    }


def lines(look):
    """What is worth a line of the log, by what it is about."""
    told = {}
    for node in look["nodes"]:
        gpus = f", {node['gpus']:g} GPUs" if node["gpus"] else ""
        words = f"{node['state']} ({node['cpus']:g} CPUs{gpus})"
        told[f"node {node['address']}"] = words
    application = look["application"]
    if application:
        told["application"] = " ".join(
            filter(None, (application["status"], application["message"]))
        )
        for one in application["deployments"]:
            words = " ".join(filter(None, (one["status"], one["message"])))
            told[f"deployment {one['name']}"] = f"{words}, {one['target']} replicas wanted"
            for replica in one["replicas"]:
                place = replica["node"] or "no node yet"
                told[f"replica {replica['id']}"] = f"{replica['state']} on {place}"
    return told
