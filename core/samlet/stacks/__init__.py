"""Stacks of slices, along z or time: each slice is segmented, and its objects are linked."""
