"""A new project, ready to click in: labeling config, backend, switches, images."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

from label_studio_sdk import LabelStudio

from samlet import images
from samlet.errors import UserError
from samlet.utils.progress import progress_bar
from samlet_labelstudio.label_studio import sdk_private
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.settings import Settings

COLOURS = ("#2a9d8f", "#e76f51", "#e9c46a", "#264653", "#8ab17d", "#b56576", "#6d597a", "#f4a261")
ROW = "display: flex; align-items: baseline; column-gap: 12px"


def default_labeling_config(labels: list[str]) -> str:
    """A labeling config with smart clicks and boxes, whose masks come as brush regions.

    Args:
        labels: at least one.

    Raises:
        UserError: no label, or one twice.
    """
    if not labels or len(set(labels)) < len(labels):
        raise UserError('Give different labels, at least one, such as --labels "cell,debris".')

    def control(heading: str, tag: str, name: str, more: str = "") -> str:
        lines = [
            f'        <Label value={quoteattr(label)} background="{COLOURS[i % len(COLOURS)]}"/>'
            for i, label in enumerate(labels)
        ]
        return "\n".join(
            [
                f'    <View style="{ROW}">',
                f'      <Header value="{heading}" size="6"/>',
                f'      <{tag} name="{name}" toName="image"{more}>',
                *lines,
                f"      </{tag}>",
                "    </View>",
            ]
        )

    # Labels in a row above the image, so that they are in sight, and clicks first, so that the
    # keys 1, 2, ... choose their labels.
    return "\n".join(
        [
            "<View>",
            f'  <View style="{ROW}; flex-wrap: wrap">',
            control("Click", "KeyPointLabels", "click", ' smart="true"'),
            control("Box", "RectangleLabels", "box", ' smart="true"'),
            control("Brush", "BrushLabels", "mask"),
            "  </View>",
            '  <Image name="image" value="$image" zoom="true"/>',
            "</View>",
        ]
    )


def init_project(
    settings: Settings, title: str, labels: list[str], backend_url: str, folder: Path | None
) -> str:
    """Create a project, connect this backend for interactive use, and upload images.

    A project of this title and these labels is used again: what it has is left out.

    Args:
        settings: where Label Studio is.
        title: of the project, at least three characters.
        labels: what objects are called.
        backend_url: of this backend, as Label Studio sees it.
        folder: of images, or None.

    Returns:
        the project's address.

    Raises:
        UserError: Label Studio does not answer or refuses something, or a folder without images;
            no project is left behind that cannot be used.
    """
    if len(title) < 3:
        raise UserError(f"The title {title!r} is too short: Label Studio wants three characters.")
    config = default_labeling_config(labels)
    paths = images.find(folder, suffixes=images.IMAGE_SUFFIXES) if folder is not None else []
    client = connect(settings)
    existing = _find_project(client, settings, title, config)
    if existing is None:
        with label_studio_errors(settings):
            project = client.projects.create(
                # Otherwise each task that is opened is pre-annotated while its page loads.
                title=title,
                label_config=config,
                show_collab_predictions=False,
            ).id
            assert project is not None
    else:
        project = existing
    try:
        _connect_once(client, settings, project, backend_url)
    except UserError as error:
        if existing is None:
            with label_studio_errors(settings):
                client.projects.delete(project)
        left = "no project was made" if existing is None else f"project {project} is as it was"
        raise UserError(
            f"Label Studio cannot use the backend at {backend_url}, so {left}: {error} Start the "
            "backend first, or give its address with --backend-url; where that is of this machine "
            "or a private one, start Label Studio with ML_BLOCK_LOCAL_IP=false and "
            "SSRF_PROTECTION_ENABLED=false."
        ) from error
    uploaded = _uploaded_names(client, settings, project) if existing is not None else set()
    _upload(client, settings, project, [path for path in paths if path.name not in uploaded])
    return f"{(settings.label_studio_url or '').rstrip('/')}/projects/{project}"


def _find_project(client: LabelStudio, settings: Settings, title: str, config: str) -> int | None:
    """The number of the project that an earlier call has made; None if there is none.

    Raises:
        UserError: one of this title has another labeling config.
    """
    with label_studio_errors(settings):
        listed: list[Any] = list(client.projects.list(title=title))
    found = [project for project in listed if project.title == title]
    for project in found:
        if (project.label_config or "").split() == config.split():
            return int(project.id)
    if found:
        raise UserError(
            f"Label Studio has a project {title!r} with other labels, {found[0].id}: choose "
            "another --title, or the labels of that project."
        )
    return None


def _connect_once(client: LabelStudio, settings: Settings, project: int, backend_url: str) -> None:
    with label_studio_errors(settings):
        connected = client.ml.list(project=project)
        if not any((each.url or "").rstrip("/") == backend_url.rstrip("/") for each in connected):
            _connect(client, settings, project, backend_url)


def _uploaded_names(client: LabelStudio, settings: Settings, project: int) -> set[str]:
    """The names that images had when they were uploaded: Label Studio puts "12345678-" before."""
    with label_studio_errors(settings):
        tasks: list[Any] = list(client.tasks.list(project=project, fields="task_only"))
    addresses = (str((task.data or {}).get("image", "")) for task in tasks)
    return {unquote(url).rpartition("/")[2].partition("-")[2] for url in addresses}


def _connect(client: LabelStudio, settings: Settings, project: int, backend_url: str) -> None:
    user, password = settings.basic_auth_user, settings.basic_auth_pass
    if user is None or password is None:
        client.ml.create(project=project, url=backend_url, title="samlet", is_interactive=True)
        return
    client.ml.create(
        project=project,
        url=backend_url,
        title="samlet",
        is_interactive=True,
        auth_method="BASIC_AUTH",
        basic_auth_user=user,
        basic_auth_pass=password,
    )
    # Label Studio makes a webhook by itself, without the password.
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    for webhook in client.webhooks.list(project=str(project)):
        if webhook.url == f"{backend_url.rstrip('/')}/webhook" and webhook.id is not None:
            client.webhooks.update(
                webhook.id, url=webhook.url, headers={"Authorization": f"Basic {encoded}"}
            )


def _upload(client: LabelStudio, settings: Settings, project: int, paths: list[Path]) -> None:
    with progress_bar() as progress:
        for path in progress.track(paths, description="Uploading"):
            with label_studio_errors(settings):
                response = sdk_private.upload(client, project, path)
            if response.status_code >= 400:
                raise UserError(
                    f"Label Studio refuses {path} with status {response.status_code}: "
                    f"{response.text[:200]}"
                )
