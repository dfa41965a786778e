"""Put a Hugging Face model on Ray Serve, as one application that can be scaled and taken away alone.

Runs as a job of a Ray cluster, in a Python that has Ray Serve and nemo_deploy; imports nothing of
tritondeck. It stands in for Export-Deploy's ``scripts/deploy/nlp/deploy_ray_hf.py``, which no wheel
carries, which needs Megatron's and TensorRT-LLM's packages to be importable, whose application cannot
be scaled through Serve's REST interface, and which ends every application of the cluster when it is
stopped. The model itself is upstream's class, `nemo_deploy.llm.hf_deployable_ray.HFRayDeployable`, as
it is.

    python ray_application.py --model FOLDER --name NAME --device cpu --port 8000

SIGTERM takes the application away; Serve as well, when this job has started it and nothing else uses
it. ``--delete`` does only that.
"""

from __future__ import annotations

import argparse
import inspect
import signal
import sys
import threading

DEPLOYMENT = "model"
DTYPES = ("auto", "bfloat16", "float16", "float32")


def arguments(argv=None):
    parser = argparse.ArgumentParser(description="Put a Hugging Face model on Ray Serve.")
    parser.add_argument("--name", required=True, help="of the application and of the served model")
    parser.add_argument("--delete", action="store_true", help="take the application away")
    parser.add_argument("--model", default="", help="folder with config.json and weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="auto")
    parser.add_argument("--device-map", default="auto", help="how Accelerate spreads it over GPUs")
    parser.add_argument("--host", default="127.0.0.1", help="where Serve listens on each node")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--cpus", type=float, default=1.0, help="for each replica")
    parser.add_argument("--gpus", type=float, default=1.0, help="for each replica")
    parser.add_argument("--max-ongoing-requests", type=int, default=10)
    parser.add_argument("--vllm", action="store_true", help="let vLLM generate")
    parser.add_argument("--trust-remote-code", action="store_true")
    return parser.parse_args(argv)


def say(text):
    print(text, flush=True)


def deployable(device):
    """Upstream's class; on the CPU without its unconditional ``.cuda()``."""
    from nemo_deploy.llm.hf_deployable_ray import HFRayDeployable

    upstream = HFRayDeployable.func_or_class
    if device == "cuda":
        return upstream

    class OnCpu(upstream):
        """Upstream moves every input to a GPU, in all its versions."""

        async def __init__(self, *args, **kwargs):
            import torch

            torch.Tensor.cuda = lambda self, *args, **kwargs: self
            await super().__init__(*args, **kwargs)

    return OnCpu


def application(given):
    """The application, bound to its arguments."""
    from ray import serve

    made = serve.deployment(deployable(given.device), name=DEPLOYMENT).options(
        num_replicas=given.replicas,
        ray_actor_options={"num_cpus": given.cpus, "num_gpus": given.gpus},
        max_ongoing_requests=given.max_ongoing_requests,
    )
    wanted = {"use_vllm_backend": True} if given.vllm else {}
    if not given.vllm:
        wanted["torch_dtype"] = given.dtype
        wanted["device_map"] = "cpu" if given.device == "cpu" else given.device_map
    return made.bind(
        hf_model_id_path=given.model,
        trust_remote_code=given.trust_remote_code,
        model_id=given.name,
        **wanted,
    )


def serving():
    """Whether Serve runs in this cluster."""
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def take_away(name, started):
    """Delete the application; end Serve with it when `started` by us and nothing else is there.

    Ray kills a job three seconds after it asked it to end, so the one request that does both is
    made; the controller goes on with it alone.
    """
    from ray import serve

    there = set(serve.status().applications)
    if started and there <= {name}:
        say(f"ending Serve, which has no application but {name}")
        serve.shutdown()
    elif name in there:
        say(f"deleting the application {name}")
        serve.delete(name)


def main():
    given = arguments()
    import ray
    from ray import serve

    ray.init(address="auto", log_to_driver=True)
    if given.delete:
        take_away(given.name, False)
        return 0
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: done.set())
    started = not serving()
    serve.start(http_options={"host": given.host, "port": given.port})
    # Clusters with an older Ray have no REST interface for scaling.
    scalable = "external_scaler_enabled" in inspect.signature(serve.run).parameters
    wanted = {"external_scaler_enabled": True} if scalable else {}
    # Whoever watches the server asks several times a second; each would be a line of the log.
    wanted["logging_config"] = {"enable_access_log": False}
    serve.run(application(given), name=given.name, **wanted)
    say(f"running: {given.name}")
    done.wait()
    take_away(given.name, started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
