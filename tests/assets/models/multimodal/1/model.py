"""Has the tensors of NeMo's multimodal models, and answers with what it was sent."""

import numpy as np
import triton_python_backend_utils as pb_utils


def frames(media):
    """Frames, size, and the mean colour of the first and the last."""
    _, count, height, width, _ = media.shape
    first, last = ("/".join(str(round(c)) for c in media[0, n].mean(axis=(0, 1))) for n in (0, -1))
    return f"{media.dtype} {count} frames {width}x{height} from {first} to {last}"


def sound(signal, length):
    """Samples, and the strongest frequency in Hz at 16 kHz."""
    loudest = np.abs(np.fft.rfft(signal[0])).argmax() * 16000 / signal.shape[1]
    told, sent = int(length[0, 0]), signal.shape[1]
    return f"{signal.dtype} {told} of {sent} samples, {round(loudest)} Hz"


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if "input_media" in given:
            seen = frames(given["input_media"])
        else:
            seen = sound(given["input_signal"], given["input_signal_length"])
        text = given["input_text"][0, 0].decode()
        if text.endswith("fail"):
            said = "An error occurred: asked to fail"
        else:
            said = f"{text!r}: {seen}, {given['max_output_len'][0, 0]} tokens"
        answer = pb_utils.Tensor("outputs", np.array([[said.encode()]], dtype=object))
        return pb_utils.InferenceResponse([answer])
