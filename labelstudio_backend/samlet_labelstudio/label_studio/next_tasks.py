"""Which tasks of a project annotators will open after another one."""

import json
from typing import Any

from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.settings import Settings

_ORDERING = {
    None: "tasks:id",
    "Sequential sampling": "tasks:id",
    "Uncertainty sampling": "tasks:predictions_score",
}
"""By the project's "sampling"; what is missing here is random."""


def next_tasks(settings: Settings, project: str, task: int, count: int) -> list[dict[str, Any]]:
    """Ask Label Studio for the tasks without annotations that follow a task.

    Args:
        settings: where Label Studio is.
        project: its number.
        task: the number of the task that is open.
        count: of tasks, at most.

    Returns:
        "id" and "data" of each, the next one first; none if the project's order is random.

    Raises:
        UserError: Label Studio does not answer, or has no such project.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        ordering = _ORDERING.get(client.projects.get(int(project)).sampling)
        if ordering is None:
            return []
        filters = [("total_annotations", "equal", 0)]
        if ordering == "tasks:id":
            filters.append(("id", "greater", task))
        items = [
            {"filter": f"filter:tasks:{name}", "operator": op, "type": "Number", "value": value}
            for name, op, value in filters
        ]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": [ordering]}
        # One more, since the open task may be among them.
        found: Any = client.tasks.list(
            project=int(project),
            query=json.dumps(query),
            page_size=count + 1,
            fields="task_only",
            resolve_uri=False,
        )
        # Iterating would ask for the pages after this one, too.
        tasks = found.items or []
    return [{"id": each.id, "data": each.data} for each in tasks if each.id != task][:count]
