"""What one partition remembers: its task, the decisions that wait for a label, and the layouts of both logs."""
