"""Synthetic training scenes: what teaches that an object is what differs from its surroundings.

`recipes.scenes.dataset.Scenes` draws them. They need OpenCV, which comes with the extra `dev`.
"""
