"""The ways out while a job lives: its events, its batch's, and waiting for its end."""
