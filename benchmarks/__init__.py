"""What the console costs, measured: `console` on a lab as its user meets it, `views` on paper fleets of any size."""
