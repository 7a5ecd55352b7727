"""The HTTP side: routes, access control, and the server process."""
