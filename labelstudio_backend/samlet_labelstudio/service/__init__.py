"""What the backend does, with nothing of HTTP in it."""

from samlet_labelstudio.service.service import Asked, Service

__all__ = ["Asked", "Service"]
