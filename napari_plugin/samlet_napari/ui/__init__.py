"""The widget "Segment" in the viewer's window: what needs Qt."""
