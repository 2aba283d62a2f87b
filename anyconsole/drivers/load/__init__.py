"""Load generators: our own agent that runs on a host without being installed there, other tools, and the engine's side of them."""
