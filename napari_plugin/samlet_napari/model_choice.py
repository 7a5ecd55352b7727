"""A drop-down of models that says what each is good for."""

from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt

from samlet_napari.inference import models


class ModelChoice(ComboBox):
    """A combo box whose entries have the models' descriptions as tooltips.

    Args:
        options: of the combo box.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._describe()

    def reset_choices(self, *arguments: Any) -> None:
        """List the models anew."""
        super().reset_choices(*arguments)
        self._describe()

    def _describe(self) -> None:
        described = models.descriptions()
        for index, name in enumerate(self.choices):
            self.native.setItemData(
                index, described.get(str(name), ""), Qt.ItemDataRole.ToolTipRole
            )
