"""What differs between label-studio-ml 1.x, on PyPI, and 2.x, on GitHub.

Both bring a base class and a Flask server. Their constructors, their `fit`, and where the labeling
config is kept are not the same; `backend.py` is written for both, by way of this module.
"""

import os
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from samlet.errors import UserError
from samlet.utils.cache_folder import cache_dir


def _database_folder() -> str:
    """Where label-studio-ml 2.x can keep its database; always the same place if there is one."""
    folder = cache_dir() / "labelstudio" / "label-studio-ml"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    return tempfile.mkdtemp(prefix="samlet-labelstudio-")


# 2.x opens it when it is imported, by default in the working folder.
if find_spec("label_studio_ml.cache") is not None and "MODEL_DIR" not in os.environ:
    os.environ["MODEL_DIR"] = _database_folder()

from label_studio_ml import model as _model  # noqa: E402

LabelStudioMLBase: Any = _model.LabelStudioMLBase
IS_FIRST = hasattr(_model, "LabelStudioMLManager")
"""Whether label-studio-ml is 1.x."""


def initialise(backend: Any, project_id: str | None, label_config: str | None) -> None:
    """Call the base class's constructor; afterwards `setup` was called.

    Raises:
        UserError: label-studio-ml cannot read the labeling config.
    """
    if IS_FIRST:
        # Without the config, which it parses, too, and less of it than samlet can read.
        LabelStudioMLBase.__init__(backend)
        backend.label_config = label_config
        backend.setup()
        return
    try:
        LabelStudioMLBase.__init__(backend, project_id=project_id, label_config=label_config)
    except UserError:
        raise
    # lxml's, or anything for want of an attribute.
    except Exception as error:
        raise UserError(
            f"label-studio-ml cannot read the labeling config ({error}): "
            "correct it in Label Studio's settings, Labeling Interface, Code."
        ) from error


def event_and_data(*given: Any, **named: Any) -> tuple[str, dict[str, Any]]:
    """Find event and data in the arguments of `fit`.

    1.x calls `fit((), event=..., data=..., job_id=..., workdir=...)`, and 2.x `fit(event, data)`.
    """
    positional = [value for value in given if isinstance(value, str | dict)]
    event = named.get("event", positional[0] if positional else "")
    data = named.get("data", positional[1] if len(positional) > 1 else {})
    return str(event), data if isinstance(data, dict) else {}
