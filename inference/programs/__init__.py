"""What is found out about programs of users: their indexes, impossible rows, what they read."""
