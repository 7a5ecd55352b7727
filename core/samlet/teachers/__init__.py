"""What can be distilled from."""
