"""The same work on many items by processes on any number of machines, on Ray."""
