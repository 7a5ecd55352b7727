"""What the backend does, with nothing of HTTP in it."""

from samlet_labelstudio.service.request_context import RequestContext
from samlet_labelstudio.service.service import Service

__all__ = ["RequestContext", "Service"]
