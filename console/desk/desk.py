"""`Desk`: the use cases that the command line and the screens both call.

A thin façade over one module a use case; those import the heavy rooms when they are used, so that a
verb pays only for what it needs. Methods block (files, HTTP, processes); screens call them from
workers. Every error that an operator can cause is a `DeckError`. With `settings.readonly` whatever
would change something is `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.desk.glossary import Term
from console.desk.rooms import Room
from console.desk.views import (
    BackendView,
    CheckReport,
    CleanReport,
    DeploymentView,
    DiffView,
    OptionField,
    OptionProblem,
    RouteView,
    ServerView,
    VersionsView,
)
from console.facts import (
    Answer,
    CancelCheck,
    Endpoint,
    EnvironmentFacts,
    Host,
    ModelMetadata,
    Progress,
    PromptAdapter,
    Request,
    Verdict,
)
from console.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from console.checkpoints.model import Checkpoint
    from console.desk import (
        attached,
        check,
        clean,
        compare,
        configure,
        doctor,
        edit,
        environments,
        follow,
        form,
        glance,
        glossary,
        incident,
        inspect,
        live,
        options,
        parallelism,
        plan,
        query,
        render,
        replay,
        saved,
        scaling,
        shell,
        standing,
        start,
        store,
        versions,
    )
    from console.desk.attached import AttachedServer
    from console.desk.incident import Incident
    from console.desk.live import LiveSource
    from console.desk.monitor import MonitorView
    from console.desk.replay import Replay
    from console.desk.scaling import ClusterView
    from console.planning.deployment import Deployment
    from console.planning.parallelism import ParallelismView
    from console.planning.plan import Plan
    from console.runs.model import RunView
    from console.runtimes.host import Launch
    from console.services.lifecycle import Lifecycle
    from console.services.model import ServiceView
    from console.telemetry.sample import Sample
    from console.triton.health import ServerHealth
else:
    attached = Room("attached")
    check = Room("check")
    clean = Room("clean")
    compare = Room("compare")
    configure = Room("configure")
    doctor = Room("doctor")
    edit = Room("edit")
    environments = Room("environments")
    follow = Room("follow")
    form = Room("form")
    glance = Room("glance")
    glossary = Room("glossary")
    incident = Room("incident")
    inspect = Room("inspect")
    live = Room("live")
    options = Room("options")
    parallelism = Room("parallelism")
    plan = Room("plan")
    query = Room("query")
    render = Room("render")
    replay = Room("replay")
    saved = Room("saved")
    scaling = Room("scaling")
    shell = Room("shell")
    standing = Room("standing")
    start = Room("start")
    store = Room("store")
    versions = Room("versions")

__all__ = [
    "BackendView",
    "CheckReport",
    "CleanReport",
    "DeploymentView",
    "Desk",
    "DiffView",
    "OptionField",
    "OptionProblem",
    "RouteView",
    "ServerView",
    "Term",
]


class _Part:
    """Holds settings and nothing else that changes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Choosing(_Part):
    """What there is to deploy, and how."""

    # -- inspect ------------------------------------------------------------------------

    def inspect(self, path: Path) -> Checkpoint:
        """Facts of one checkpoint; raises `UsageError` in words for what is none."""
        return inspect.inspect(path)

    def browse(self, folder: Path, cancelled: CancelCheck | None = None) -> tuple[Checkpoint, ...]:
        """The checkpoints directly in `folder`, sub-folders as `Format.UNKNOWN` entries with task
        ``folder``; sorted by name."""
        return inspect.browse(folder, cancelled)

    def scan(
        self,
        folder: Path,
        progress: Callable[[int], None] | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Iterator[Checkpoint]:
        """Every checkpoint in the tree below `folder`, as they are found; `progress` is called with
        the number of entries seen. What cannot be read comes as in `browse`."""
        return inspect.scan(folder, progress, cancelled)

    def backends(self) -> tuple[BackendView, ...]:
        """Every export backend by name, without importing it."""
        return inspect.backends()

    def routes(self, checkpoints: Mapping[str, Checkpoint]) -> tuple[RouteView, ...]:
        """Every backend with its verdict on these checkpoints, accepting ones first."""
        return inspect.routes(checkpoints)

    # -- configure ----------------------------------------------------------------------

    def option_fields(self, backend: str) -> tuple[OptionField, ...]:
        """The backend's options in form order."""
        return options.fields(options.backend(backend).Options)

    def draft(
        self, checkpoint: Path, backend: str = "", name: str = "", profile: str = ""
    ) -> Deployment:
        """A deployment with suggested options for a checkpoint, not yet saved. A profile of the
        settings (the default one when none is named) is laid over it."""
        return configure.draft(self.settings, checkpoint, backend, name, profile)

    def form_fields(self, deployment: Deployment) -> tuple[OptionField, ...]:
        """What a form shows: the backend's options, then ``server.…`` as far as the chosen launcher
        reads it and ``environments.NAME.…``, by dotted key."""
        return form.fields(deployment, query.joinable(self.settings, deployment.name))

    def form_values(self, deployment: Deployment) -> dict[str, Any]:
        """What each of `form_fields` holds now; fields that are absent hold their default."""
        return form.values(deployment)

    def with_options(
        self, deployment: Deployment, changes: Mapping[str, Any]
    ) -> tuple[Deployment, tuple[OptionProblem, ...]]:
        """`deployment` with changed fields, options by name and the rest by dotted key (texts from
        a form are parsed); problems if invalid, and then the deployment is returned unchanged."""
        return form.change(deployment, changes)

    def options(self, deployment: Deployment) -> BaseModel:
        """The deployment's options bound to its backend; `UsageError` names what is wrong."""
        return options.bound(deployment)

    def glance(self) -> tuple[DeploymentView, ...]:
        """Saved deployments by their files and runs, unvalidated and without their servers: a few
        milliseconds, where the first `deployments` of a process imports what reads the rest."""
        return glance.glance(self.settings)

    def deployments(self) -> tuple[DeploymentView, ...]:
        """Saved deployments with their state, the most recent first."""
        return saved.deployments(self.settings)

    def open(self, name_or_file: str) -> Deployment:
        """A saved deployment by name, or a deployment file by path."""
        return configure.open_deployment(self.settings, name_or_file)

    def save(self, deployment: Deployment, file: Path | None = None) -> Path:
        """Write the deployment, keeping the comments of an existing file."""
        return configure.save(self.settings, deployment, file)

    def forget(self, name: str) -> None:
        """Move a saved deployment, its runs and its work to the trash folder; refused while a run
        of it is active or it serves."""
        saved.forget(self.settings, name)

    def clone(self, name: str, new: str) -> Path:
        """Save a copy of a deployment under a new name, its comments kept; the new file."""
        return compare.clone(self.settings, name, new)

    def diff(self, left: str, right: str) -> DiffView:
        """What differs between two deployments (names, files) or runs (ids)."""
        return compare.diff(self.settings, left, right)

    def deployment_text(self, name: str) -> str:
        """The text of a saved deployment, right or wrong."""
        return edit.text(self.settings, name)

    def draft_file(self, name: str, text: str) -> Path:
        """A private copy of a deployment's text for an editor."""
        return edit.draft_file(self.settings, name, text)

    def replace_text(self, name: str, text: str, before: str) -> Path:
        """Save an edited text that was `before`; `UsageError` names key and line of what is wrong."""
        return edit.replace(self.settings, name, text, before)

    def shell(self, name: str, environment: str = "", argv: tuple[str, ...] = ()) -> Launch:
        """What to exec for a shell (or `argv`) where the deployment's steps run."""
        return shell.launch(self.settings, name, environment, argv)


class Running(_Part):
    """Checks, plans and runs."""

    # -- check and plan -----------------------------------------------------------------

    def host(self) -> Host:
        """What this machine has, now."""
        return plan.host()

    def check(self, deployment: Deployment, progress: Progress | None = None) -> CheckReport:
        """Every verdict on this deployment here; starts nothing."""
        return check.check(self.settings, deployment, progress)

    def server_verdicts(self, deployment: Deployment) -> tuple[Verdict, ...]:
        """What there is to say, here and now, about single options of ``[server]``: who holds a
        port, which engine answers, what an image carries. `DeckError` when no plan can be made."""
        return check.server(self.settings, deployment)

    def parallelism(self, deployment: Deployment) -> ParallelismView | None:
        """How its language model is spread over this machine's GPUs and what fits; None for a route
        without parallel sizes."""
        return parallelism.parallelism(self.settings, deployment)

    def doctor(self) -> CheckReport:
        """Verdicts on this machine alone: libpython, GPU, disk, shared memory, environments."""
        return doctor.doctor(self.settings)

    def plan(self, deployment: Deployment) -> Plan:
        """The plan; runs nothing."""
        return plan.plan(self.settings, deployment)

    def render(self, deployment: Deployment, form: str) -> str:
        """The deployment for another way of running it: one of `render.FORMATS` (``script``,
        ``docker``, ``systemd``, ``systemd-user``, ``compose``, ``kubernetes``, ``slurm``)."""
        return render.render(self.settings, deployment, form)

    def script(self, deployment: Deployment) -> str:
        """The plan as a shell script that works without tritondeck."""
        return plan.script(self.settings, deployment)

    # -- runs ---------------------------------------------------------------------------

    def deploy(self, deployment: Deployment, *, from_step: str = "", force: bool = False) -> str:
        """Check, save and start a detached run; returns its id. `Refused` when a check blocks.

        `from_step` runs that step and the following ones even when unchanged; `force` all of them.
        """
        return start.deploy(self.settings, deployment, from_step=from_step, force=force)

    def fetches_first(self, deployment: Deployment) -> bool:
        """Whether a run of it only fetches what a hub id names: when that run has succeeded,
        `build_fetched` goes on from it."""
        return plan.fetches_first(self.settings, deployment)

    def build_fetched(self, run_id: str, *, force: bool = False) -> str:
        """Build and serve what the ended run has fetched; the id of the run that does. `DeckError`
        when what came is no checkpoint."""
        return start.build_fetched(self.settings, run_id, force=force)

    def runs(self, deployment: str = "") -> tuple[RunView, ...]:
        """Runs, the newest first."""
        return start.store(self.settings).views(deployment)

    def run(self, run_id: str) -> RunView:
        """One run as its folder tells it now; cheap enough to call four times a second."""
        return start.store(self.settings).view(run_id)

    def cancel(self, run_id: str) -> None:
        """Ask the runner to end the current step and stop; returns at once."""
        start.cancel(self.settings, run_id)

    def retry(self, run_id: str, from_step: str = "") -> str:
        """Continue a run that failed, was cancelled or lost its runner; returns the run's id."""
        return start.retry(self.settings, run_id, from_step)

    def delete_run(self, run_id: str) -> None:
        """Remove a finished run's folder."""
        start.delete(self.settings, run_id)

    def log_file(self, run_id: str, step: str) -> Path:
        """The log of one step (it may not exist yet)."""
        return start.store(self.settings).log_file(run_id, step)

    def telemetry(self, run_id: str) -> tuple[Sample, ...]:
        """Host and GPU memory as the run's recorder saw it, oldest first."""
        return start.store(self.settings).samples(run_id)

    def sample(self) -> Sample:
        """Host and GPU figures now (a few milliseconds; never from the event loop)."""
        return follow.sample()

    def follow(self, run_id: str, poll: float = 0.25) -> Iterator[RunView]:
        """Yield the run each time it changes, until it has ended."""
        return follow.follow(self.settings, run_id, poll)


class Serving(_Part):
    """Servers, and asking them."""

    # -- services -----------------------------------------------------------------------

    def services(self) -> tuple[ServiceView, ...]:
        """Services of ours, living ones first."""
        return query.services(self.settings)

    def service(self, name_or_id: str) -> ServiceView:
        """A service by id or by its deployment's name (the newest)."""
        return query.service(self.settings, name_or_id)

    def server(self, name_or_id: str, deployment: str = "") -> ServerView:
        """Everything about one server, asked once: where it stands, its models, its container, the
        versions of `deployment` (its own when empty), the way to it. ``attached:NAME`` is one that
        is watched alone."""
        return standing.server(self.settings, name_or_id, deployment)

    def health(self, endpoint: Endpoint) -> ServerHealth:
        """Live, ready and per-model state, as three different facts."""
        return query.health(endpoint)

    def lifecycle(self, name_or_id: str) -> Lifecycle:
        """Where a service stands, from starting to crashed, in one word and a sentence."""
        return query.lifecycle(self.settings, name_or_id)

    def stop(self, name_or_id: str, progress: Progress | None = None) -> ServiceView:
        """Stop a service and wait for its end."""
        return query.stop(self.settings, name_or_id, progress)

    def cluster(self, name_or_id: str) -> ClusterView:
        """Nodes and replicas of an application on a Ray cluster, as they were last seen."""
        return scaling.look(self.settings, name_or_id)

    def scale(
        self, name_or_id: str, replicas: int, progress: Progress | None = None
    ) -> ClusterView:
        """Let it have so many replicas; returns when they all run."""
        return scaling.scale(self.settings, name_or_id, replicas, progress)

    def versions(self, name: str) -> VersionsView:
        """The versions of a deployment's models that are on disk, and which one answers."""
        return versions.look(self.settings, name)

    def rollback(
        self, name: str, version: int = 0, progress: Progress | None = None
    ) -> VersionsView:
        """Let an earlier version answer again (the one before the live one when none is named),
        with no moment without an answer, and ask it what verified it. Where no server runs, it is
        what the next one loads."""
        return versions.rollback(self.settings, name, version, progress)

    def remove(self, name: str, progress: Progress | None = None) -> tuple[str, ...]:
        """Take a deployment's models out of the server and the repository, into the trash; their
        names. `Refused` while another model needs one of them. The server itself goes on."""
        return versions.remove(self.settings, name, progress)

    def forwarding(self, endpoint: Endpoint) -> str:
        """The ssh command that brings a loopback server to the operator's own machine; empty for
        one that is reached without."""
        return query.forwarding(endpoint)

    def attached(self) -> tuple[AttachedServer, ...]:
        """Servers that are somebody else's and watched, by name."""
        return attached.attached(self.settings)

    def attach(self, server: AttachedServer) -> AttachedServer:
        """Watch one more server from now on; one of the same name is changed."""
        return attached.attach(self.settings, server)

    def detach(self, name: str) -> None:
        """Watch it no more; the server is left as it is."""
        attached.detach(self.settings, name)

    # -- monitoring ---------------------------------------------------------------------

    def monitor(
        self, interval: float = 0.0, each: Callable[[MonitorView], None] | None = None
    ) -> LiveSource:
        """This machine and every server that runs or is attached, from now on until `close`.

        `interval` in seconds (the settings' when 0); `each` is called with every view, from a
        thread of the source.
        """
        return live.LiveSource(self.settings, interval, each)

    def replay(self, file: Path) -> Replay:
        """What was recorded in a file, a run or a service; `UsageError` in words when nothing was."""
        return replay.Replay(incident.recording_of(self.settings, file))

    def incident(self, name: str, file: Path | None = None) -> Incident:
        """Pack what is known of a run or service into one zip file, secrets masked."""
        return incident.pack(self.settings, name, file)

    def load_model(self, endpoint: Endpoint, model: str) -> None:
        query.load(self.settings, endpoint, model)

    def unload_model(self, endpoint: Endpoint, model: str) -> None:
        query.unload(self.settings, endpoint, model)

    # -- query --------------------------------------------------------------------------

    def metadata(self, endpoint: Endpoint, model: str) -> ModelMetadata:
        return query.metadata(endpoint, model)

    def adapter(self, endpoint: Endpoint, metadata: ModelMetadata) -> PromptAdapter:
        """The prompt form for a model: its backend's, or the tensor form."""
        return query.adapter(self.settings, endpoint, metadata)

    def infer(
        self,
        endpoint: Endpoint,
        request: Request,
        on_text: Callable[[str], None] | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Answer:
        """Send one request over HTTP (the token is not needed for inference). Text goes to `on_text`
        piece by piece as it arrives, from this thread; `cancelled` is asked between the pieces."""
        return query.infer(endpoint, request, on_text, cancelled)

    def words(self, form: PromptAdapter, answer: Answer) -> str:
        """The answer as a person reads it."""
        return query.words(form, answer)

    def as_curl(self, endpoint: Endpoint, request: Request) -> str:
        """The request as a curl command."""
        return query.curl(endpoint, request)

    def as_python(self, endpoint: Endpoint, request: Request) -> str:
        """The request as a Python program with tritonclient."""
        return query.python(endpoint, request)


class Keeping(_Part):
    """The console's own house: environments, words, disk."""

    # -- environments -------------------------------------------------------------------

    def environments(self, sizes: bool = True) -> tuple[EnvironmentFacts, ...]:
        """Managed environments on this host."""
        return environments.listed(self.settings, sizes)

    def create_environment(self, name: str, progress: Progress | None = None) -> EnvironmentFacts:
        """Create the managed environment `name` unless it is ready; blocks for minutes."""
        return environments.create(self.settings, name, progress)

    def remove_environment(self, name: str) -> int:
        """Remove one by name; returns bytes freed. Refused while a run or service uses it."""
        return environments.remove(self.settings, name)

    # -- words --------------------------------------------------------------------------

    def explain(self, word: str, *, check: bool = False) -> Term | None:
        """What a term or an option means, or a check; None for what needs no explanation."""
        return glossary.explain(word, check=check)

    def glossary(self) -> tuple[Term, ...]:
        """Every explained word."""
        return glossary.terms()

    # -- cleaning -----------------------------------------------------------------------

    def clean(
        self,
        kinds: tuple[str, ...] = (),
        *,
        older_than: float = 0.0,
        keep: int = 5,
        remove: bool = False,
        progress: Progress | None = None,
    ) -> CleanReport:
        """What takes space, and with `remove` without what is safe to remove.

        `kinds` of `clean.KINDS` (all when empty), `older_than` in seconds, `keep` the newest ended
        runs and services of each deployment that stay.
        """
        return clean.clean(
            self.settings, kinds, older_than=older_than, keep=keep, remove=remove, progress=progress
        )


class Storing(_Part):
    """The store of a deployment whose model searches one."""

    def store_fill(
        self,
        name: str,
        source: Path,
        *,
        replace: bool = False,
        progress: Progress | None = None,
        on_failed: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Write the records of a folder or a file of JSON lines: ``records``, ``written``,
        ``unchanged``, ``failed``, ``seconds``, ``total``. What failed goes to `on_failed` as well."""
        return store.fill(
            self.settings, name, source, replace=replace, progress=progress, on_failed=on_failed
        )

    def store_count(self, name: str, wanted: str = "") -> dict[str, Any]:
        """``count`` of the records that fit a filter (JSON), ``bytes``, ``spaces``."""
        return store.count(self.settings, name, wanted)

    def store_delete(
        self, name: str, ids: tuple[str, ...] = (), wanted: str = "", everything: bool = False
    ) -> dict[str, Any]:
        """``deleted`` and ``total``: by ids, by a filter, or everything."""
        return store.delete(self.settings, name, ids, wanted, everything)

    def store_rebuild(self, name: str, progress: Progress | None = None) -> dict[str, Any]:
        """Make the store's indexes anew: ``indexes``, ``seconds``, ``bytes``, ``total``."""
        return store.rebuild(self.settings, name, progress)


class Desk(Choosing, Running, Serving, Keeping, Storing):
    """The use cases. One object a process. Each method is its promise and one call into its module."""
