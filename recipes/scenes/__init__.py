"""Synthetic training scenes: what teaches that an object is what differs from its surroundings."""
