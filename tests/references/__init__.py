"""Scripts that produce what tests compare with, from packages that are not installed for tests."""
