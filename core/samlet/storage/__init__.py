"""Files and folders on this machine, in object storage, or on a web server."""
