"""Keep an application on a Ray cluster: submit its job, follow it node by node, scale it, stop it.

Standard library only; runs where the console runs and imports nothing of tritondeck; `ray_rest.py` and
`ray_node.py` lie beside it. It speaks Ray's own REST interfaces at the head's dashboard.

    python ray_serve.py --cluster existing --head http://127.0.0.1:8265 --name NAME --port 8000 \\
        --folder FOLDER -- python /opt/Export-Deploy/scripts/deploy/nlp/deploy_ray_hf.py …

With ``--cluster head`` it starts a head here first, and a cluster of one node with it, which ends with
this process. With ``--cluster join`` it starts a node here that joins a cluster, and submits nothing;
``GET /v1/health`` at the port says whether the node is well.

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
import http.server
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from ray_node import Health, Node, say, until_answers
from ray_rest import (
    EX_SOFTWARE,
    FOLLOWED,
    JOB_STOP,
    OVER,
    CannotServe,
    Ray,
    Unreachable,
    last_line,
    lines,
    package,
    seen,
)

EVERY = 1.0  # seconds between two looks
LOGS_EVERY = 5.0
LOG_CAP = 4 << 20  # bytes of the job's log that are copied


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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32))
        # Whole or not at all: with an empty file the head would ask nobody for a token.
        os.link(name, path)
    except FileExistsError:
        pass  # that of an earlier start
    finally:
        Path(name).unlink()
    token = path.read_text(encoding="ascii").strip()
    if not token:
        raise CannotServe(f"{path} is empty", "delete it: a new token is made")
    return token


# ---------------------------------------------------------------------------- the application


class Follower:
    """One application of one cluster, from its submission to its end."""

    def __init__(self, ray, given):
        self.ray, self.given = ray, given
        self.folder = Path(given.folder)
        # Ray has traces of an ended job for a while, and refuses another one of the same name.
        self.submission = f"tritondeck-{given.name}-{secrets.token_hex(4)}"
        self.begun = False
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
        for job in self.ray.jobs(given.name):
            if job["status"] in OVER:
                self.ray.forget(job["submission_id"])
            elif (job.get("metadata") or {}).get(FOLLOWED) == mark:
                self.submission, self.begun = job["submission_id"], True
                say(f"the job {self.submission} runs already: following it")
                return
            else:
                say(f"the job {job['submission_id']} has another command line: stopping it")
                self.ray.end(job["submission_id"])
                self.settle()
        self.await_nodes()
        self.refuse_conflicts()
        self.begun = True
        self.ray.submit(self.submission, given.name, given.words, given.package, mark)
        say(f"submitted the job {self.submission}: {shlex.join(given.words)}")

    def settle(self):
        """Wait until the application of an ended job is gone, and the Serve that it had started."""
        until = time.monotonic() + JOB_STOP
        while time.monotonic() < until:
            served = self.ray.serve()
            others = served.get("applications") or {}
            if self.given.name not in others and (others or not served.get("http_options")):
                return
            time.sleep(0.2)

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
            self.ray.submit(cleaner, "", words, self.given.package, "end")
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
        try:
            follower.begin()
            follower.follow()
        except Ended:
            # A second SIGTERM must not break off what the first one has begun.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if follower.begun:
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
