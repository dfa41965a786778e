"""ONNX Runtime sessions as the python models open them. Python 3.10 syntax."""


def open_graph(path, device, gpu, threads):
    """A session for one graph; raises RuntimeError where the device cannot be had."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        available = onnxruntime.get_available_providers()
        if "CUDAExecutionProvider" not in available:
            raise RuntimeError(
                "device is cuda, but the installed ONNX Runtime %s has only %s: "
                "install onnxruntime-gpu in the serving environment, or set device to cpu"
                % (onnxruntime.__version__, ", ".join(available))
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
    return onnxruntime.InferenceSession(path, options, providers=providers)
