"""Panes: what the body of the main screen can show. A pane shows views of the model and never recomputes what they mean."""
