"""How we know and touch: one module per daemon, protocol or transport. No policy lives here."""
