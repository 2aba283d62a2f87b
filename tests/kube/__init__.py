"""Tests against a Kubernetes API server: the project's own fake one, or a real one that the environment names."""
