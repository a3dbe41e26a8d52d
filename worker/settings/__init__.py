"""Settings: their sections, how they are read, how they are shown, and what is wrong with them in words."""
