"""A bare host becomes a cluster."""
