"""Screens: the main screen with its panes, and the text screens that lie over it for a while."""
