"""Widgets that know nothing of the fleet: a table, a chart. Each is painted line by line, and only where something changed."""
