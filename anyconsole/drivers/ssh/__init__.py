"""SSH to every node and vantage point: one connection and one long-lived session each. Begin reading at `fleet.py`.

The way down: `fleet` owns a `link` per host; a link asks `resolve` how to get there, waits for its jump host in `tunnels`, logs in through
`dial` (who they are: `hostkeys`; who we are: `credentials`; a ProxyCommand: `proxy`) and then runs a `feed`: the pushed probe, or
`poll_feed` over `node_transport`. What goes wrong gets its word and its retry rule in `fault`. `execute` is for single commands and logs,
`argv` for command lines of the user's own ssh.
"""
