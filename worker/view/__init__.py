"""What people look at: alerts and dead letters as text, in which all foreign text is escaped."""
