"""Fails in initialize, as a model does whose weights are missing."""


class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("weights not found: encoder.onnx")

    def execute(self, requests):
        raise AssertionError("never loaded")
