"""Label Studio's regions: masks written as regions, prompts read from them; a file per tag."""

from samlet_labelstudio.regions.results import is_own, to_results

__all__ = ["is_own", "to_results"]
