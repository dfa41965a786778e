"""Use case: services, their health, and requests to what they serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from console.desk import acting, attached, configure, readonly
from console.facts import (
    Answer,
    CancelCheck,
    DeckError,
    Endpoint,
    ModelMetadata,
    Progress,
    PromptAdapter,
    Request,
    UsageError,
)
from console.planning.deployment import NAME
from console.prompts import TextAnswer, TextRequest
from console.settings import Settings

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.services.lifecycle import Lifecycle
    from console.services.model import ServiceView
    from console.triton.health import ServerHealth

LOAD_TIMEOUT = 120.0
"""Seconds for a load that no deployment sets a time for."""


def services(settings: Settings) -> tuple[ServiceView, ...]:
    from console.services.store import ServiceStore

    return tuple(ServiceStore(settings).views())


def service(settings: Settings, name_or_id: str) -> ServiceView:
    """Of a deployment that went into the server of another, that server."""
    from console.desk import versions
    from console.services.store import ServiceStore

    if name_or_id.startswith(attached.PREFIX):
        return attached.as_service(settings, name_or_id.removeprefix(attached.PREFIX))
    try:
        found = ServiceStore(settings).view(name_or_id)
    except UsageError:
        if NAME.match(name_or_id) and (host := versions.host_of(settings, name_or_id)):
            return host
        raise
    if found.deployment == name_or_id and not found.living:
        return versions.host_of(settings, name_or_id) or found
    return found


def joinable(settings: Settings, name: str) -> tuple[str, ...]:
    """Deployments whose running server takes the models of another, of `name`, by request."""
    from console.services.model import ServiceState

    return tuple(
        dict.fromkeys(
            view.deployment
            for view in services(settings)
            if view.state is ServiceState.RUNNING
            and view.endpoint.ours
            and view.endpoint.token_file is not None
            and view.deployment != name
        )
    )


def stop(settings: Settings, name_or_id: str, progress: Progress | None = None) -> ServiceView:
    from console.services.store import ServiceStore

    readonly.require_writable(settings, "stop a service")
    store = ServiceStore(settings)
    with acting.noted(settings, "stop", store.view(name_or_id).id):
        return store.stop(name_or_id, progress or _silent)


def _silent(message: str, fraction: float | None = None) -> None:
    """Progress that nobody watches."""


def forwarding(endpoint: Endpoint) -> str:
    import getpass
    import os
    import socket

    from console.triton import forwarding as ssh

    return ssh.forward(endpoint, ssh.login(os.environ, getpass.getuser(), socket.gethostname()))


def health(endpoint: Endpoint) -> ServerHealth:
    from console.triton.health import probe

    return probe(endpoint)


def lifecycle(settings: Settings, name_or_id: str) -> Lifecycle:
    """Where a service stands: its process, what it says of itself, and whether it really answers.

    An attached server has nothing that watches it, so it is asked here when its time has come.
    """
    from console.services import lifecycle as life
    from console.services import watch
    from console.triton.health import probe

    view = service(settings, name_or_id)
    if not view.living:
        return life.lifecycle(view, None)
    found = probe(view.endpoint)
    if found.live and not view.endpoint.ours:
        watch.refresh(view.folder)
    return life.lifecycle(view, found)


def load(settings: Settings, endpoint: Endpoint, model: str) -> None:
    from console.triton import control

    readonly.require_writable(settings, "load a model")
    attached.require_control(settings, endpoint, "load a model")
    with acting.noted(settings, "load", _target(settings, endpoint), model):
        control.load(endpoint, model, _load_timeout(settings, endpoint))


def unload(settings: Settings, endpoint: Endpoint, model: str) -> None:
    from console.triton import control

    readonly.require_writable(settings, "unload a model")
    attached.require_control(settings, endpoint, "unload a model")
    with acting.noted(settings, "unload", _target(settings, endpoint), model):
        control.unload(endpoint, model)


def _target(settings: Settings, endpoint: Endpoint) -> str:
    """What an action on this endpoint is noted under: its service, else its address."""
    mine = (view.id for view in services(settings) if view.endpoint.url == endpoint.url)
    return next(mine, endpoint.url)


def _load_timeout(settings: Settings, endpoint: Endpoint) -> float:
    deployment = _deployment_at(settings, endpoint)
    return deployment.server.load_timeout if deployment else LOAD_TIMEOUT


def metadata(endpoint: Endpoint, model: str) -> ModelMetadata:
    """Of an OpenAI-type server the name alone: it takes and gives text."""
    if endpoint.kind == "openai":
        return ModelMetadata(model, (), "openai", (), ())
    from console.triton import inference

    return inference.metadata(endpoint, model)


def infer(
    endpoint: Endpoint,
    request: Request,
    on_text: Callable[[str], None] | None = None,
    cancelled: CancelCheck | None = None,
) -> Answer:
    if isinstance(request, TextRequest):
        from console.generation.client import complete

        return complete(endpoint, request, on_text=on_text, cancelled=cancelled)
    from console.triton import inference

    return inference.infer(endpoint, request)


def words(form: PromptAdapter, answer: Answer) -> str:
    return answer.text if isinstance(answer, TextAnswer) else form.answer(answer)


def curl(endpoint: Endpoint, request: Request) -> str:
    if isinstance(request, TextRequest):
        from console.generation import snippets as texts

        return texts.curl(endpoint, request)
    from console.triton import media, snippets

    media.stay()
    return snippets.curl(endpoint, request)


def python(endpoint: Endpoint, request: Request) -> str:
    if isinstance(request, TextRequest):
        from console.generation import snippets as texts

        return texts.python(endpoint, request)
    from console.triton import media, snippets

    media.stay()
    return snippets.python(endpoint, request)


def adapter(settings: Settings, endpoint: Endpoint, metadata: ModelMetadata) -> PromptAdapter:
    """The form of the backend that built the model, else one field a tensor.

    The model says itself who built it (``tritondeck_backend``, or the part of
    ``tritondeck_adapter`` before a colon or slash); a server of ours is known by its deployment, and
    one of somebody else by the names of its inputs.
    """
    from backends import registry
    from console.generation.form import TextForm
    from console.triton.tensorform import TensorForm

    deployment = _deployment_at(settings, endpoint)
    known = frozenset(registry.names())
    for name in (*_builders(deployment, metadata), *_alike(metadata)):
        if name not in known:
            continue
        backend = registry.get(name)
        form: PromptAdapter | None = (
            backend.prompts_of(deployment, endpoint, metadata)
            if deployment is not None and deployment.backend == name
            else backend.prompts(endpoint, metadata)
        )
        if form is not None:
            return form
    return TextForm(metadata.name) if endpoint.kind == "openai" else TensorForm(metadata)


def _builders(deployment: Deployment | None, metadata: ModelMetadata) -> tuple[str, ...]:
    adapter_name = metadata.parameters.get("tritondeck_adapter", "")
    names = (
        metadata.parameters.get("tritondeck_backend", ""),
        adapter_name.replace("/", ":").partition(":")[0],
        deployment.backend if deployment else "",
    )
    return tuple(dict.fromkeys(name for name in names if name))


def _alike(metadata: ModelMetadata) -> Iterator[str]:
    """Routes that know their models by the names of inputs, where nobody says who built this one."""
    from backends import registry

    inputs = frozenset(spec.name for spec in metadata.inputs)
    for name in registry.names():
        try:
            served = registry.door(name).served
        except DeckError:
            continue  # a plugin that does not load knows no models; its route says why
        if any(names <= inputs for names in served):
            yield name


def _deployment_at(settings: Settings, endpoint: Endpoint) -> Deployment | None:
    """The saved deployment of the service of ours that answers at this endpoint."""
    for view in services(settings):
        if view.endpoint.url == endpoint.url:
            try:
                return configure.open_deployment(settings, view.deployment)
            except DeckError:
                return None  # forgotten or unreadable since; the service is there all the same
    return None
