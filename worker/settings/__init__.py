"""Settings: what there is, where it comes from, and what is wrong with it in words."""
