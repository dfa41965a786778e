"""Send the requests that verified a run once more: what answered then has to answer now."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from console import storage
from console.facts import DeckError, Endpoint
from console.planning.plan import Inference, Plan, VerifyStep
from console.planning.variables import expand
from console.runs import saved
from console.runs.folder import RunFolder
from console.settings import Settings


def ask(settings: Settings, run_id: str, endpoint: Endpoint) -> str:
    """The answers in words; empty when the run's folder is gone. Raises `DeckError` for a wrong one."""
    from console.triton.inference import infer
    from console.triton.verify import judge

    folder = RunFolder(settings.folders.runs / run_id)
    kept = storage.read_json(folder.values)
    try:
        plan = Plan.model_validate_json(folder.plan.read_bytes())
    except (OSError, ValidationError):
        plan = None
    if plan is None or kept is None:
        return ""
    answers = []
    for probe in (p for step in plan.steps if isinstance(step, VerifyStep) for p in step.success):
        if not isinstance(probe, Inference):
            continue
        wanted = saved.filled(probe, lambda path: Path(expand(path, kept["values"])), probe.model)
        answer = infer(endpoint, wanted, timeout=probe.timeout)
        if differs := judge(answer, probe.expect):
            raise DeckError(f"{probe.title}: the answer is not the expected one", why=differs)
        answers.append(saved.words(answer, probe))
    return "; ".join(answers)
