"""Where users of label-studio-ml's own server import the backend class from."""

from samlet_labelstudio.ml_backend.backend import SamletBackend

__all__ = ["SamletBackend"]
