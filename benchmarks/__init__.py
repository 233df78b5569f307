"""Speed, measured: one command per metric, on processes of its own. README.md has the numbers beside the commands."""
