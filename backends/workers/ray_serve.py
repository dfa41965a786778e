"""Keep an application on a Ray cluster: submit its job, follow it node by node, scale it, stop it.

Standard library only; runs where the console runs and imports nothing of tritondeck. It speaks Ray's
own REST interfaces at the head's dashboard: jobs (``/api/jobs/``), packages (``/api/packages/``),
nodes (``/nodes``), Serve (``/api/serve/applications/``) and scaling (``/api/v1/applications/…``).

    python ray_serve.py --cluster existing --head http://127.0.0.1:8265 --name NAME --port 8000 \\
        --folder FOLDER -- python /opt/Export-Deploy/scripts/deploy/nlp/deploy_ray_hf.py …

With ``--cluster head`` it starts a head here first, and a cluster of one node with it, which ends with
this process. With ``--cluster join`` it starts a node here that joins a cluster, and submits nothing;
``GET /v1/health`` at the port says whether the node is well. ``ray stop`` is never called: it ends
every Ray of a host.

FOLDER/cluster.json  what the cluster was last seen to be: nodes, application, replicas
FOLDER/scale.json    a request of the console: {"id": TEXT, "replicas": N}

A token is taken from the variable or the file that is named, and given to Ray's own programs by
their environment. A head without one gets a new one, in FOLDER/token (0600).

When this process is killed the application goes on; the next one with the same command line follows
it. SIGTERM takes the application away and waits for that.

Exit codes: 0 stopped, 70 (EX_SOFTWARE) the application or the cluster died, 78 (EX_CONFIG) it cannot
work here, with the reason and the fix on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import http.server
import io
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import quote, urlsplit

EX_SOFTWARE = 70
EX_CONFIG = 78
EVERY = 1.0  # seconds between two looks
LOGS_EVERY = 5.0
LOG_CAP = 4 << 20  # bytes of the job's log that are copied
BODY_CAP = 32 << 20
NODE_START = 90.0
JOB_STOP = 30.0
NODE_STOP = 5.0
NODE_DRAIN = 35.0
OVER = ("STOPPED", "SUCCEEDED", "FAILED")
FOLLOWED = "tritondeck"  # key of a job's metadata that says which command line it is of


class CannotServe(Exception):
    """It cannot work here, or not any more: what is wrong, what helps, and the exit code."""

    def __init__(self, reason, fix, code=EX_CONFIG):
        super().__init__(reason)
        self.fix = fix
        self.code = code


class Unreachable(CannotServe):
    """The head does not answer."""


class Ended(Exception):
    """SIGTERM."""


def arguments(argv=None):
    parser = argparse.ArgumentParser(description="Keep an application on a Ray cluster.")
    parser.add_argument("--cluster", choices=("existing", "head", "join"), default="existing")
    parser.add_argument("--head", default="", help="URL of the head's dashboard")
    parser.add_argument("--name", required=True, help="of the application")
    parser.add_argument("--folder", required=True, help="for cluster.json and scale.json")
    parser.add_argument("--address", default="127.0.0.1", help="where Serve listens on each node")
    parser.add_argument("--port", type=int, required=True, help="of Serve's HTTP proxies")
    parser.add_argument("--package", action="append", default=[], help="file that the job needs")
    parser.add_argument("--token-env", default="", help="variable that holds Ray's token")
    parser.add_argument("--token-file", default="", help="file that holds Ray's token")
    parser.add_argument("--nodes", type=int, default=1, help="wait for so many before submitting")
    parser.add_argument("--needs", default="0,0", help="GPUs,CPUs of one replica")
    parser.add_argument("--ray", default="ray", help="Ray's program, to start a node with")
    parser.add_argument("--gcs", default="", help="HOST:PORT of the cluster to join")
    parser.add_argument("--gcs-port", type=int, default=0, help="of a head that is started")
    parser.add_argument("--dashboard-port", type=int, default=0)
    parser.add_argument("--agent-port", type=int, default=0)
    parser.add_argument("--node-address", default="", help="address of this node")
    parser.add_argument("--node-cpus", type=int, default=0, help="0: as many as there are")
    parser.add_argument("--node-gpus", type=int, default=-1, help="-1: as many as there are")
    parser.add_argument("words", nargs="*", help="the job's command line")
    return parser.parse_args(argv)


def say(text):
    print(text, flush=True)


def token_of(given):
    """Ray's token, or an empty text where none is named."""
    if given.token_env:
        value = os.environ.get(given.token_env, "").strip()
        if not value:
            raise CannotServe(
                f"the variable {given.token_env}, which should hold Ray's token, is not set",
                "export it where tritondeck is started",
            )
        return value
    if given.token_file:
        try:
            value = Path(given.token_file).expanduser().read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CannotServe(f"cannot read Ray's token: {error}", "correct token_file") from error
        if not value:
            raise CannotServe(f"{given.token_file} is empty", "write the cluster's token into it")
        return value
    return own_token(Path(given.folder) / "token") if given.cluster == "head" else ""


def own_token(path):
    """The token of a cluster that is started here: kept, so that nodes may join after a restart."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii")


# ---------------------------------------------------------------------------- Ray's REST interface


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
        return json.loads(text or "null")

    def version(self):
        return str(self.told("GET", "/api/version").get("ray_version", ""))

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

    def submit(self, submission, words, files, mark):
        body = {
            # Ray gives it to a shell.
            "entrypoint": shlex.join(words),
            "submission_id": submission,
            "metadata": {FOLLOWED: mark},
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


class Follower:
    """One application of one cluster, from its submission to its end."""

    def __init__(self, ray, given):
        self.ray, self.given = ray, given
        self.folder = Path(given.folder)
        self.submission = f"tritondeck-{given.name}"
        self.told = {}
        self.log = ""
        self.next_log = 0.0
        self.answered = self.request().get("id", "")
        self.problem = ""

    # -- submission

    def begin(self):
        """Submit the job, or find the one that an earlier process has submitted."""
        given = self.given
        say(f"Ray {self.ray.version()} at {self.ray.url}")
        content = package(given.package)
        mark = hashlib.sha256(shlex.join(given.words).encode() + content).hexdigest()[:16]
        job = self.ray.job(self.submission)
        if job and job["status"] not in OVER:
            if (job.get("metadata") or {}).get(FOLLOWED) == mark:
                say(f"the job {self.submission} runs already: following it")
                return
            say(f"the job {self.submission} has another command line: stopping it")
            self.ray.end(self.submission)
        if job:
            self.ray.forget(self.submission)
        self.await_nodes()
        self.refuse_conflicts()
        self.ray.submit(self.submission, given.words, given.package, mark)
        say(f"submitted the job {self.submission}: {shlex.join(given.words)}")

    def await_nodes(self):
        """Wait until the cluster has as many nodes as are wanted; refuse a replica that fits none."""
        while True:
            nodes = self.ray.nodes()
            alive = [node for node in nodes if node["state"] == "ALIVE"]
            self.announce(lines({"nodes": nodes, "application": None}))
            write(self.folder / "cluster.json", {"time": time.time(), "nodes": nodes})
            if len(alive) >= self.given.nodes:
                break
            self.say_once("waiting", f"for {self.given.nodes} nodes, there are {len(alive)}")
            time.sleep(EVERY)
        gpus, cpus = (float(number) for number in self.given.needs.split(","))
        if not any(node["gpus"] >= gpus and node["cpus"] >= cpus for node in alive):
            most = max(alive, key=lambda node: (node["gpus"], node["cpus"]))
            # A Megatron replica is several actors, which Ray may place on several nodes.
            if sum(node["gpus"] for node in alive) < gpus or most["cpus"] < cpus:
                raise CannotServe(
                    f"a replica wants {gpus:g} GPUs and {cpus:g} CPUs, and the largest node has "
                    f"{most['gpus']:g} and {most['cpus']:g}",
                    "ask for less, or join a larger node",
                )

    def say_once(self, about, words):
        if self.told.get(about) != words:
            say(f"{about} {words}")
        self.told[about] = words

    def refuse_conflicts(self):
        given, look = self.given, seen(self.ray, self.given.name)
        if look["application"]:
            raise CannotServe(
                f"the cluster serves an application {given.name} that is not of this deployment",
                "give the deployment another name, or take that application away",
            )
        # Serve keeps the address that it was started with, whoever asks for another one.
        port = (look["http"] or {}).get("port")
        if (look["others"] or port) and port and port != given.port:
            raise CannotServe(
                f"Serve runs in this cluster already, at port {port}",
                f"set server.http_port = {port}, and accept the check port-http",
            )

    # -- following

    def follow(self):
        """Look again and again; raises when the application has died."""
        misses = 0
        while True:
            try:
                self.look()
                misses = 0
            except Unreachable:
                misses += 1
                if misses * EVERY > 30:
                    raise
            time.sleep(EVERY)

    def look(self):
        look = seen(self.ray, self.given.name)
        job = self.ray.job(self.submission)
        look["job"] = job["status"] if job else "GONE"
        self.copy_log(final=look["job"] not in ("PENDING", "RUNNING"))
        self.announce(lines(look))
        self.obey(look)
        look["asked"] = {"id": self.answered, "problem": self.problem}
        write(self.folder / "cluster.json", look)
        if look["job"] not in ("PENDING", "RUNNING"):
            application = look["application"] or {}
            message = last_line((job or {}).get("message") or "")
            why = " ".join(filter(None, (message, application.get("message", ""))))
            raise CannotServe(
                f"the job ended ({look['job']}): {why}", "read the log above it", EX_SOFTWARE
            )
        if look["application"] and look["application"]["status"] == "DEPLOY_FAILED":
            say(f"the application failed: {look['application']['message']}")

    def announce(self, told):
        for about, words in told.items():
            if self.told.get(about) != words:
                say(f"{about}: {words}")
        for about in self.told.keys() - told.keys():
            say(f"{about}: gone")
        self.told = told

    def copy_log(self, final=False):
        """The new part of the job's log."""
        if len(self.log) >= LOG_CAP or (time.monotonic() < self.next_log and not final):
            return
        self.next_log = time.monotonic() + LOGS_EVERY
        text = self.ray.job_log(self.submission)
        fresh = text[len(self.log) :] if text.startswith(self.log) else text
        for line in fresh.splitlines():
            say(f"job: {line}")
        self.log = text
        if len(text) >= LOG_CAP:
            say("the job's log is not copied any further; Ray's dashboard has it")

    # -- scaling

    def request(self):
        try:
            return json.loads((self.folder / "scale.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def obey(self, look):
        """Do what the console has asked for since the last look."""
        asked = self.request()
        if not asked or asked.get("id") == self.answered:
            return
        application = look["application"]
        if application is None:
            self.problem = "the application is not deployed yet"
        elif len(application["deployments"]) != 1:
            self.problem = "the application has several deployments: scale them in Ray's own way"
        else:
            one = application["deployments"][0]["name"]
            self.problem = self.ray.scale(self.given.name, one, int(asked["replicas"]))
        self.answered = asked["id"]
        say(f"scale to {asked['replicas']} replicas: {self.problem or 'asked for'}")

    # -- the end

    def end(self):
        """Take the application away; waits until it is gone."""
        say(f"stopping the job {self.submission}")
        self.ray.end(self.submission)
        self.copy_log(final=True)
        name = self.given.name
        if self.given.package and name in (self.ray.serve().get("applications") or {}):
            # Ray gives a job three seconds; where that was too short, another job does the rest.
            words = [*self.given.words[:2], f"--name={name}", "--delete"]
            cleaner = f"{self.submission}-end"
            self.ray.forget(cleaner)
            self.ray.submit(cleaner, words, self.given.package, "end")
            self.wait_over(cleaner)
            self.ray.forget(cleaner)
        until = time.monotonic() + JOB_STOP
        while name in (self.ray.serve().get("applications") or {}):
            if time.monotonic() > until:
                raise CannotServe(
                    f"the application {name} is still there",
                    "look at it in Ray's dashboard",
                    EX_SOFTWARE,
                )
            time.sleep(0.2)
        self.ray.forget(self.submission)
        say(f"the application {name} is gone")

    def wait_over(self, submission):
        until = time.monotonic() + JOB_STOP
        while (job := self.ray.job(submission)) and job["status"] not in OVER:
            if time.monotonic() > until:
                self.ray.end(submission)
                return
            time.sleep(0.2)


def write(path, value):
    """Atomically, for this user alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".cluster-")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    Path(name).replace(path)


# ---------------------------------------------------------------------------- a node of our own


class Node:
    """Ray's own processes on this machine, as a child that stays in the foreground."""

    def __init__(self, given, token):
        self.given, self.token = given, token
        self.process = self.reader = None
        self.scratch = self.error = ""

    def words(self):
        """``ray start …``; nothing secret stands in it."""
        given = self.given
        words = [given.ray, "start", "--block", "--disable-usage-stats", "--log-style=record"]
        words += [f"--temp-dir={self.scratch}"]
        if given.cluster == "head":
            words += ["--head", f"--port={given.gcs_port}", "--include-dashboard=true"]
            words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={given.dashboard_port}"]
        else:
            words += [f"--address={given.gcs}"]
            words += [f"--dashboard-agent-listen-port={given.agent_port}"]
        if given.node_address:
            words.append(f"--node-ip-address={given.node_address}")
        if given.node_cpus:
            words.append(f"--num-cpus={given.node_cpus}")
        if given.node_gpus >= 0:
            words.append(f"--num-gpus={given.node_gpus}")
        return words

    def start(self):
        """Start it, with free ports where 0 is given."""
        given = self.given
        for name in ("gcs_port", "dashboard_port", "agent_port"):
            setattr(given, name, getattr(given, name) or free_port())
        # Sockets lie in it, and their paths have room for 107 characters.
        self.scratch = tempfile.mkdtemp(prefix="tdray-")
        env = {**os.environ, "RAY_DISABLE_DOCKER_CPU_WARNING": "1"}
        if self.token:
            env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        words = self.words()
        say(shlex.join(words))
        # A session of its own: the application goes first, so it must not get this one's SIGTERM.
        self.process = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self.reader = threading.Thread(target=self.copy, daemon=True)
        self.reader.start()

    def copy(self):
        """Its words into our log; the last one that tells an error is why it ended."""
        for line in self.process.stdout:
            say(line.rstrip())
            if "Error" in line and not line.startswith(" "):
                self.error = line.strip()[:500]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def require_alive(self):
        if not self.alive():
            self.reader.join(2)
            why = self.error or f"exit code {self.process.returncode}"
            raise CannotServe(
                f"Ray's own processes ended: {why}", "read the log above it", EX_SOFTWARE
            )

    def stop(self):
        """End it; what it leaves is ended by whoever keeps this process."""
        if self.alive():
            self.process.terminate()
            try:
                # A node of somebody's cluster lets its replicas finish first, 30 seconds at most.
                self.process.wait(NODE_DRAIN if self.given.cluster == "join" else NODE_STOP)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_group(self.scratch)
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def end_group(scratch):
    """End the processes that name our own folder on their command line: Ray's daemons."""
    if not scratch:
        return
    until = time.monotonic() + NODE_STOP
    number = signal.SIGTERM
    while left := [pid for pid in own_processes() if names(pid, scratch)]:
        if time.monotonic() > until:
            number = signal.SIGKILL
        if time.monotonic() > until + 5:
            return
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it has just ended
        time.sleep(0.2)


def own_processes():
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def names(pid, word):
    try:
        return pid != os.getpid() and word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended, or is somebody else's


def until_answers(ray, node):
    """Wait for the dashboard of a head that has just been started."""
    until = time.monotonic() + NODE_START
    while True:
        node.require_alive()
        try:
            ray.version()
            return
        except Unreachable:
            if time.monotonic() > until:
                raise
        time.sleep(0.3)


class Health(http.server.BaseHTTPRequestHandler):
    """``GET /v1/health``: what the node's own agent says of it."""

    agent: Ray | None = None

    def do_GET(self):
        well = self.path == "/v1/health" and healthy(self.agent)
        listed = self.path == "/v1/models"
        told = (
            {"object": "list", "data": []} if listed else {"status": "ok" if well else "not ready"}
        )
        body = json.dumps(told).encode()
        self.send_response(200 if well or listed else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Nothing for each request."""


def healthy(agent):
    try:
        status, text = agent.call("GET", "/api/local_raylet_healthz", timeout=3.0)
    except CannotServe:
        return False
    return status == 200 and "success" in text


# ---------------------------------------------------------------------------- the three ways


def require_head(place):
    """Raise when nothing listens at the head: Ray itself would wait for it without a word."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise CannotServe(
            f"nothing listens at {place}: {error}", "check gcs, and that the head runs"
        ) from error


def keep_node(given, token):
    """A node of somebody's cluster, until SIGTERM."""
    require_head(given.gcs)
    node = Node(given, token)
    try:
        node.start()
        Health.agent = Ray(f"http://127.0.0.1:{given.agent_port}", token)
        server = http.server.ThreadingHTTPServer((given.address, given.port), Health)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while True:
            node.require_alive()
            time.sleep(EVERY)
    finally:
        node.stop()


def keep_application(given, token):
    """An application on a cluster, until SIGTERM; with a head of our own where it is wanted."""
    node = Node(given, token) if given.cluster == "head" else None
    try:
        if node:
            node.start()
            ray = Ray(f"http://127.0.0.1:{given.dashboard_port}", token)
            until_answers(ray, node)
            say(f"nodes join at port {given.gcs_port}; the token: {Path(given.folder) / 'token'}")
        else:
            ray = Ray(given.head, token)
        follower = Follower(ray, given)
        begun = False
        try:
            follower.begin()
            begun = True
            follower.follow()
        except Ended:
            # A second SIGTERM must not break off what the first one has begun.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if begun or ray.job(follower.submission):
                follower.end()
            raise
    finally:
        if node:
            node.stop()


def main():
    given = arguments()

    def ended(number, frame):
        raise Ended

    signal.signal(signal.SIGTERM, ended)
    try:
        Path(given.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        token = token_of(given)
        (keep_node if given.cluster == "join" else keep_application)(given, token)
    except Ended:
        return 0
    except CannotServe as error:
        print(f"error: {error}; {error.fix}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
