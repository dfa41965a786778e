"""Send the requests that verified a run once more: what answered then has to answer now."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from console import storage
from console.facts import DeckError
from console.planning.plan import Inference, Plan, VerifyStep
from console.planning.variables import expand
from console.runs import saved
from console.runs.folder import RunFolder
from console.services.model import ServiceView
from console.services.store import ServiceStore
from console.settings import Settings


def ask(settings: Settings, run_id: str, deployment: str, service: ServiceView) -> str:
    """Send them and note them as what the service is asked from now on; the answers in words.

    Empty when the run's folder is gone. Raises `DeckError` for a wrong answer.
    """
    from console.triton.inference import infer
    from console.triton.verify import judge

    probes = _requests(settings, run_id)
    answers = []
    for probe in probes:
        wanted = saved.filled(probe, Path, probe.model)
        answer = infer(service.endpoint, wanted, timeout=probe.timeout)
        if differs := judge(answer, probe.expect):
            raise DeckError(f"{probe.title}: the answer is not the expected one", why=differs)
        answers.append(saved.words(answer, probe))
    ServiceStore(settings).served(service.id, deployment, probes)
    return "; ".join(answers)


def _requests(settings: Settings, run_id: str) -> tuple[Inference, ...]:
    folder = RunFolder(settings.folders.runs / run_id)
    kept = storage.read_json(folder.values)
    try:
        plan = Plan.model_validate_json(folder.plan.read_bytes())
    except (OSError, ValidationError):
        return ()
    values = kept["values"] if kept else {}
    probes = [p for step in plan.steps if isinstance(step, VerifyStep) for p in step.success]
    found = saved.requests(probes, lambda path: Path(expand(path, values)))
    return tuple(probe for probe in found if isinstance(probe, Inference))
