"""k3s on a host: what is there, what it takes, how it is put there. Nothing here decides."""
