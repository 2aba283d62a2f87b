"""What we do, decided on paper: plans and guards. Pure values; nothing here touches a node."""
