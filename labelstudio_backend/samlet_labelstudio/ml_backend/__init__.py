"""The backend as a class for label-studio-ml's own server; samlet's server does not use it."""
