"""The screen: a replica of the fleet and the panes that show it. Textual lives here and in `anyconsole.theme`, nowhere else."""
