"""Profiles: the TOML files that describe a fleet, read into an `Inventory`, checked, printed and imported."""

from anyconsole.profile.load import chosen_profile, explain_profiles, find_profile, load_profile, parse_profile

__all__ = ["chosen_profile", "explain_profiles", "find_profile", "load_profile", "parse_profile"]
