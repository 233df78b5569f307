"""What is read and set: jobs, figures, budgets, keys, lanes."""
