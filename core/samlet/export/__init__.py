"""Exporting models as ONNX or OpenVINO graphs, for programs without samlet and PyTorch."""

from samlet.export.exporting import export

__all__ = [
    "export",
]
