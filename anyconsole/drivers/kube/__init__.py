"""Kubernetes clusters: what their API tells us as facts, and what we change there. The only place that knows of kubernetes and aiohttp."""
