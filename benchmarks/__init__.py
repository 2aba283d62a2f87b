"""What the console costs and what it saves, measured.

`console` on a lab as its user meets it, `views` on paper fleets of any size, `drain` the queries that ways of draining lose,
`agent` our load generator beside dnsperf, `search` our search for the best rate beside three others.
"""
