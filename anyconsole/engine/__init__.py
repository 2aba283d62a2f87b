"""The engine: the process that owns the fleet's connections, its store and its events, and serves them to whoever shows them."""
