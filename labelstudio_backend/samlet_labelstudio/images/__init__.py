"""The images of tasks: where they may be fetched from, and which file a URL means."""
