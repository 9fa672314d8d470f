"""What several test modules use: a root of their own, the leak guard, child processes, requirements."""
