"""What every export backend must keep, whoever wrote it: run over all that are registered."""

from __future__ import annotations

import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from backends import registry
from backends.base import Backend, BackendOptions
from console.checkpoints.model import Checkpoint
from console.facts import Level, ToolFacts, Verdict
from console.planning.deployment import NAME, Deployment
from console.planning.plan import (
    CommandStep,
    EnvironmentStep,
    ImageStep,
    Inference,
    LoadStep,
    Plan,
    Probe,
    ServiceSpec,
    ServiceStep,
    SwitchStep,
    TextAnswered,
    VerifyStep,
)
from console.planning.variables import expand, names, shell_word

from . import samples


@pytest.fixture(params=registry.names())
def backend(request: pytest.FixtureRequest) -> Backend:
    return registry.get(request.param)


def accepted(backend: Backend) -> dict[str, Checkpoint]:
    found = {
        name: checkpoint
        for name, checkpoint in samples.ALL.items()
        if backend.accepts({backend.roles[0].name: checkpoint}).level is not Level.FAIL
    }
    assert found, "a backend that takes nothing"
    return found


def deployment(backend: Backend, checkpoint: Checkpoint, **changes: Any) -> Deployment:
    role = backend.roles[0].name
    options = backend.suggest({role: checkpoint}, samples.HOST).model_dump(mode="json")
    return Deployment(
        name="sample",
        backend=backend.name,
        checkpoints={role: str(checkpoint.path)},
        options=options | changes,
    )


def plans(backend: Backend) -> list[Plan]:
    role = backend.roles[0].name
    return [
        backend.plan(deployment(backend, c), {role: c}, samples.HOST, ToolFacts())
        for c in accepted(backend).values()
    ]


def services(backend: Backend, **server: Any) -> list[ServiceSpec]:
    """The servers that this route starts for a ``[server]`` of its own."""
    role, found = backend.roles[0].name, []
    for checkpoint in accepted(backend).values():
        made = deployment(backend, checkpoint).model_dump() | {"server": server}
        chosen = Deployment.model_validate(made)
        plan = backend.plan(chosen, {role: checkpoint}, samples.HOST, ToolFacts())
        found += [step.service for step in plan.steps if isinstance(step, ServiceStep)]
    return found


def test_names_and_titles_are_fit_for_files_and_screens(backend):
    assert NAME.match(backend.name)
    assert backend.title and "\n" not in backend.title
    assert issubclass(backend.Options, BackendOptions)


@pytest.mark.parametrize("kind", samples.ALL)
def test_a_refusal_says_why_and_what_would_do(backend, kind):
    verdict = backend.accepts({backend.roles[0].name: samples.ALL[kind]})
    assert isinstance(verdict, Verdict) and verdict.summary
    if verdict.level is Level.FAIL:
        assert verdict.fix


def test_every_option_has_title_help_group_and_default(backend):
    for name, field in backend.Options.model_fields.items():
        extra = field.json_schema_extra
        assert field.title and field.description, name
        assert len(field.title) <= 26, f"{name}: the form cuts its title"
        assert isinstance(extra, dict) and extra.get("group"), name
        assert not field.is_required(), name


def test_options_survive_the_way_through_json_and_their_schema(backend):
    options = backend.Options()
    assert backend.bind(options.model_dump(mode="json")) == options
    properties = backend.Options.model_json_schema()["properties"]
    assert set(properties) == set(backend.Options.model_fields)
    for name, schema in properties.items():
        bounded = {"minimum", "exclusiveMinimum", "enum", "const", "items"} & set(schema)
        assert bounded or schema["type"] in ("boolean", "string"), f"{name} has no bounds"


def test_an_unknown_option_is_an_error(backend):
    with pytest.raises(ValidationError):
        backend.bind({"no_such_option": 1})


def test_suggested_options_give_a_plan_and_no_failing_check(backend):
    """Without a GPU the missing GPU may fail, and nothing else."""
    role = backend.roles[0].name
    for checkpoint in accepted(backend).values():
        made = deployment(backend, checkpoint)
        verdicts = backend.checks(made, {role: checkpoint}, samples.HOST, ToolFacts())
        failing = {v.check for v in verdicts if v.level is Level.FAIL}
        assert failing <= {"gpu"}
        assert not [v for v in verdicts if "does nothing" in v.summary]
        if failing:
            verdicts = backend.checks(made, {role: checkpoint}, samples.GPU_HOST, ToolFacts())
            assert [v for v in verdicts if v.level is Level.FAIL] == []
        assert backend.plan(made, {role: checkpoint}, samples.HOST, ToolFacts()).steps


def test_the_same_inputs_give_the_same_plan(backend):
    assert plans(backend) == plans(backend)


@pytest.mark.parametrize(
    ("address", "asked", "published"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost", "127.0.0.1"),  # the engines publish on no name
        ("::1", "[::1]", "::1"),
        ("0.0.0.0", "127.0.0.1", "0.0.0.0"),
    ],
)
def test_a_server_is_asked_where_it_listens(backend, address, asked, published):
    for service in services(backend, address=address, expose=address == "0.0.0.0"):
        urls = (service.http_url, service.metrics_url, *service.more_urls)
        assert {urlsplit(url).netloc.rpartition(":")[0] for url in urls if url} == {asked}
        inside = service.command.container if service.command else None
        if inside is not None:
            assert {port.address for port in inside.ports} == {published}


def test_a_server_is_kept_as_the_deployment_says(backend):
    kept = {"probe_seconds": 7.0, "restart": "on-failure", "restart_limit": 3}
    for service in services(backend, **kept):
        assert {name: getattr(service, name) for name in kept} == kept


def test_a_plan_survives_the_way_through_json(backend):
    for plan in plans(backend):
        assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_making_a_plan_touches_no_file(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    plans(backend)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_holds_no_value_of_the_environment(backend, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    monkeypatch.setenv("TRITONDECK_TEST_SECRET", "a-very-secret-value")
    for plan in plans(backend):
        text = plan.model_dump_json()
        assert "x" * 30 not in text and "a-very-secret-value" not in text


def test_every_word_of_a_command_survives_a_shell(backend):
    for plan in plans(backend):
        for step in plan.steps:
            command = step.command if isinstance(step, CommandStep) else None
            if isinstance(step, ServiceStep):
                command = step.service.process
            for word in command.argv if command else ():
                values = {name: f"value of {name}" for name in names(word)}
                quoted = shell_word(word)
                for name in names(word):
                    quoted = quoted.replace('"${' + name.upper() + '}"', f"'{values[name]}'")
                assert shlex.split(quoted) == [expand(word, values)]


def test_a_hostile_file_name_is_one_literal_word(backend):
    for kind, checkpoint in accepted(backend).items():
        role = backend.roles[0].name
        made = deployment(backend, checkpoint)
        plan = backend.plan(made, {role: checkpoint}, samples.HOST, ToolFacts())
        words = [
            expand(word, dict.fromkeys(names(word), "v"))
            for step in plan.steps
            if isinstance(step, CommandStep)
            for word in step.command.argv
        ]
        # A route without commands has no words of a command line.
        assert not words or str(checkpoint.path) in words, kind


def test_environments_and_images_come_before_the_steps_that_run_in_them(backend):
    for plan in plans(backend):
        ready: set[str] = set()
        known = {spec.name for spec in (*plan.environments, *plan.images)}
        for step in plan.steps:
            if isinstance(step, EnvironmentStep):
                ready.add(step.environment)
            if isinstance(step, ImageStep):
                ready.add(step.image)
            if isinstance(step, CommandStep) and step.command.runtime != "host":
                assert step.command.runtime.partition(":")[2] in ready
        assert ready == known


def test_what_prepare_needs_is_what_the_plan_uses(backend):
    for checkpoint in accepted(backend).values():
        made = deployment(backend, checkpoint)
        role = backend.roles[0].name
        plan = backend.plan(made, {role: checkpoint}, samples.HOST, ToolFacts())
        assert set(backend.needs(made)) == set(plan.environments)


def test_a_command_is_judged_by_more_than_its_exit_code(backend):
    for plan in plans(backend):
        for step in plan.steps:
            if isinstance(step, CommandStep):
                assert {probe.kind for probe in step.success} - {"exit_code"}


def test_a_plan_ends_with_a_real_request_to_what_it_loaded(backend):
    for plan in plans(backend):
        verify = next(step for step in reversed(plan.steps) if isinstance(step, VerifyStep))
        assert all(isinstance(s, SwitchStep) for s in plan.steps[plan.steps.index(verify) + 1 :])
        asked = {_asked(probe) for probe in verify.success}
        loaded = {m for step in plan.steps if isinstance(step, LoadStep) for m in step.models}
        loaded |= {
            m for step in plan.steps if isinstance(step, ServiceStep) for m in step.service.models
        }
        assert asked and asked <= loaded


def _asked(probe: Probe) -> str:
    assert isinstance(probe, Inference | TextAnswered)
    if isinstance(probe, Inference):
        return probe.model
    named = re.match(r"/v2/models/([^/]+)/generate$", probe.path)
    return named[1] if named else str(probe.body["model"])


def test_every_step_says_what_it_is_for(backend):
    for plan in plans(backend):
        assert all(step.title and step.why for step in plan.steps)


def test_an_unknown_model_gets_no_form_of_ours(backend):
    from console.facts import Endpoint, ModelMetadata

    unknown = ModelMetadata("other", ("1",), "python", (), ())
    assert backend.prompts(Endpoint("http://127.0.0.1:8000"), unknown) is None
