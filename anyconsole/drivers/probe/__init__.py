"""The probe: a program that runs on a node without being installed there, and the engine's end of its stream."""
