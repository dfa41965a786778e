"""The process that keeps an application on a Ray cluster, against a head's recorded answers."""

from __future__ import annotations

import importlib
import io
import json
import os
import shlex
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import backends.workers
from tests.ray_head import Head, served

WORKERS = Path(backends.workers.__file__).parent


@pytest.fixture
def ray_serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The worker as a module; what lies beside it is found as in its own folder."""
    monkeypatch.syspath_prepend(str(WORKERS))
    return importlib.import_module("ray_serve")


@pytest.fixture
def head() -> Iterator[Head]:
    with served(Head()) as found:
        yield found


class Kept:
    """The worker as a process, with its log and its folder."""

    def __init__(self, head: Head, folder: Path, *words: str, **environ: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        argv = [
            sys.executable, str(WORKERS / "ray_serve.py"), f"--head={head.url}", "--name=facts",
            f"--folder={folder / 'ray'}", "--port=18400", *words,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, env={**os.environ, **environ}
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def state(self) -> dict[str, Any]:
        file = self.folder / "ray" / "cluster.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def until(self, wanted: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not wanted():
            assert self.process.poll() is None or wanted(), self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def ask(self, replicas: int, name: str = "one") -> None:
        request = {"id": name, "replicas": replicas}
        (self.folder / "ray" / "scale.json").write_text(json.dumps(request))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def keep(head: Head, tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []

    def start(*words: str, **environ: str) -> Kept:
        made.append(Kept(head, tmp_path, *words, **environ))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()


def serving(kept: Kept) -> bool:
    return bool(kept.state().get("application"))


def test_a_job_is_submitted_and_followed_node_by_node(head: Head, keep: Any) -> None:
    words = ["python", "serve.py", "--model_path=/models/it's a $(trap)", "--port=0"]
    kept = keep("--", *words)
    kept.until(lambda: serving(kept))
    (body,) = head.requests("POST", "/api/jobs/")
    told = json.loads(body)
    assert shlex.split(told["entrypoint"]) == words
    assert told["submission_id"].startswith("tritondeck-facts-")
    state = kept.state()
    assert [node["address"] for node in state["nodes"]] == ["10.77.0.1", "10.77.0.2"]
    assert state["application"]["status"] == "RUNNING"
    for line in ("node 10.77.0.2: ALIVE (2 CPUs)", "application: RUNNING", "job: the job's first"):
        kept.until(lambda line=line: line in kept.text())
    assert kept.stop() == 0


def test_what_the_job_needs_travels_as_a_package(head: Head, keep: Any) -> None:
    file = WORKERS / "ray_application.py"
    kept = keep(f"--package={file}", "--", "python", "ray_application.py")
    kept.until(lambda: serving(kept))
    ((name, content),) = head.packages.items()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("ray_application.py") == file.read_bytes()
    told = json.loads(head.requests("POST", "/api/jobs/")[0])
    assert told["runtime_env"]["working_dir"] == f"gcs://{name}"


def test_the_application_is_taken_away_at_the_end(head: Head, keep: Any) -> None:
    kept = keep("--", "python", "x.py")
    kept.until(lambda: serving(kept))
    assert kept.stop() == 0
    assert head.requests("POST", f"/api/jobs/{head.submission}/stop") and head.job == "missing"
    assert "the application facts is gone" in kept.text()


def test_a_second_process_follows_the_job_of_one_that_was_killed(head: Head, keep: Any) -> None:
    first = keep("--", "python", "x.py")
    first.until(lambda: serving(first))
    first.process.kill()
    first.process.wait()
    assert head.job == "running"
    second = keep("--", "python", "x.py")
    second.until(lambda: "runs already: following it" in second.text())
    assert len(head.requests("POST", "/api/jobs/")) == 1
    assert second.stop() == 0 and head.job == "missing"


def test_another_command_line_takes_the_place_of_the_first(head: Head, keep: Any) -> None:
    first = keep("--", "python", "x.py")
    first.until(lambda: serving(first))
    first.process.kill()
    first.process.wait()
    before = head.submission
    second = keep("--", "python", "y.py")
    second.until(lambda: len(head.requests("POST", "/api/jobs/")) == 2)
    assert head.requests("POST", f"/api/jobs/{before}/stop") and head.submission != before


def test_a_wish_for_replicas_reaches_the_cluster(head: Head, keep: Any) -> None:
    kept = keep("--", "python", "x.py")
    kept.until(lambda: serving(kept))
    kept.ask(2)
    kept.until(lambda: len(kept.state()["application"]["deployments"][0]["replicas"]) == 2)
    assert kept.state()["asked"] == {"id": "one", "problem": ""}
    (body,) = head.requests("POST", "/api/v1/applications/facts/deployments/model/scale")
    assert json.loads(body) == {"target_num_replicas": 2}


def test_an_application_that_cannot_be_scaled_says_so(head: Head, keep: Any) -> None:
    head.scalable = False
    kept = keep("--", "python", "x.py")
    kept.until(lambda: serving(kept))
    kept.ask(2)
    kept.until(lambda: kept.state()["asked"]["id"] == "one")
    assert "was not deployed for scaling" in kept.state()["asked"]["problem"]


def test_an_old_wish_is_not_granted_again(head: Head, keep: Any, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "scale.json").write_text('{"id": "old", "replicas": 7}')
    kept = keep("--", "python", "x.py")
    kept.until(lambda: "asked" in kept.state())
    assert head.replicas == 1


def test_the_token_comes_by_its_name_and_stands_on_no_command_line(
    head: Head, keep: Any, tmp_path: Path
) -> None:
    head.token = "the-cluster's-token"
    kept = keep("--token-env=MY_RAY_TOKEN", "--", "python", "x.py", MY_RAY_TOKEN=head.token)
    kept.until(lambda: serving(kept))
    line = Path(f"/proc/{kept.process.pid}/cmdline").read_bytes()
    assert head.token.encode() not in line
    written = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert written and not any(head.token.encode() in f.read_bytes() for f in written)


def test_a_head_without_a_name_for_its_token_makes_a_private_one(
    ray_serve: Any, tmp_path: Path
) -> None:
    words = ["--cluster=head", "--name=x", f"--folder={tmp_path}", "--port=1"]
    first = ray_serve.token_of(ray_serve.arguments(words))
    assert len(first) == 64
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert ray_serve.token_of(ray_serve.arguments(words)) == first
    assert [file.name for file in tmp_path.iterdir()] == ["token"]


def test_an_empty_token_of_its_own_opens_no_head(ray_serve: Any, tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    words = ["--cluster=head", "--name=x", f"--folder={tmp_path}", "--port=1"]
    with pytest.raises(ray_serve.CannotServe, match="is empty"):
        ray_serve.token_of(ray_serve.arguments(words))


@pytest.mark.parametrize("cluster", ["head", "join"])
def test_a_node_is_started_with_nothing_secret_in_its_words(ray_serve: Any, cluster: str) -> None:
    words = [f"--cluster={cluster}", "--name=x", "--folder=/f", "--port=1", "--gcs=10.0.0.1:6379"]
    words += ["--node-address=10.0.0.2", "--node-cpus=3", "--node-gpus=0", "--gcs-port=6400"]
    node = ray_serve.Node(ray_serve.arguments(words), "the-cluster's-token")
    made = node.words()
    assert made[1] == "start" and "--block" in made and "--disable-usage-stats" in made
    assert {"--node-ip-address=10.0.0.2", "--num-cpus=3", "--num-gpus=0"} <= set(made)
    if cluster == "head":
        assert {"--head", "--port=6400", "--dashboard-host=127.0.0.1"} <= set(made)
    else:
        assert "--address=10.0.0.1:6379" in made
    assert not any("token" in word for word in made)


# ---------------------------------------------------------------------------- what is refused


def refused(kept: Kept, code: int = 78) -> str:
    assert kept.process.wait(60) == code, kept.text()
    return kept.text()


def test_a_head_that_is_not_there_is_told(head: Head, keep: Any) -> None:
    head.url = "http://127.0.0.1:9"
    assert "does not answer" in refused(keep("--", "python", "x.py"), 70)


def test_a_cluster_to_join_that_is_not_there_is_told_before_ray_waits_for_it(keep: Any) -> None:
    told = refused(keep("--cluster=join", "--gcs=127.0.0.1:9", "--token-env=T", T="token"))
    assert "nothing listens at 127.0.0.1:9" in told


def test_why_rays_own_processes_ended_is_told(keep: Any, tmp_path: Path) -> None:
    ray = tmp_path / "ray-program"
    ray.write_text(
        "#!/bin/sh\necho starting\necho 'AuthenticationError: InvalidAuthToken'\nexit 3\n"
    )
    ray.chmod(0o755)
    told = refused(keep("--cluster=head", f"--ray={ray}", "--", "python", "x.py"), 70)
    assert (
        told.rstrip()
        .splitlines()[-1]
        .startswith("error: Ray's own processes ended: AuthenticationError: InvalidAuthToken")
    )


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"version": "28.0.1"}'])
def test_another_server_than_a_dashboard_is_told(keep: Any, body: bytes) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        kept = keep(f"--head=http://127.0.0.1:{server.server_port}", "--", "python", "x.py")
        assert "is no head's dashboard" in refused(kept)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_refused_token_is_told(head: Head, keep: Any) -> None:
    head.token = "the-cluster's-token"
    told = refused(keep("--", "python", "x.py"))
    assert "refuses the token: Unauthorized" in told and "token_env" in told


def test_a_variable_that_is_not_set_is_told(keep: Any) -> None:
    told = refused(keep("--token-env=NO_SUCH_TOKEN", "--", "python", "x.py"))
    assert "NO_SUCH_TOKEN" in told


def test_an_application_of_somebody_else_is_left_alone(head: Head, keep: Any) -> None:
    head.deployed = True
    assert "not of this deployment" in refused(keep("--", "python", "x.py"))
    assert head.deployed and not head.requests("POST", "/api/jobs/")


def test_a_replica_that_fits_no_node_is_refused(head: Head, keep: Any) -> None:
    told = refused(keep("--needs=4,1", "--", "python", "x.py"))
    assert "wants 4 GPUs and 1 CPUs" in told
    assert not head.requests("POST", "/api/jobs/")


def test_nothing_is_submitted_until_enough_nodes_are_there(head: Head, keep: Any) -> None:
    head.nodes = 1
    kept = keep("--nodes=2", "--", "python", "x.py")
    kept.until(lambda: "waiting for 2 nodes, there are 1" in kept.text())
    assert not head.requests("POST", "/api/jobs/")
    head.nodes = 2
    kept.until(lambda: serving(kept))


def test_a_controller_that_does_not_answer_for_a_while_is_waited_for(head: Head, keep: Any) -> None:
    kept = keep("--", "python", "x.py")
    kept.until(lambda: serving(kept))
    head.unwell = True
    count = len(head.asked)
    kept.until(lambda: len(head.asked) > count + 3)
    head.unwell = False
    seen = kept.state()["time"]
    kept.until(lambda: kept.state()["time"] > seen)


def test_a_job_that_ends_ends_the_service_with_its_words(head: Head, keep: Any) -> None:
    kept = keep("--", "python", "x.py")
    kept.until(lambda: serving(kept))
    head.log += "ValueError: this is why\n"
    head.job, head.deployed = "stopped", False
    told = refused(kept, 70)
    assert "job: ValueError: this is why" in told and "the job ended (STOPPED)" in told
