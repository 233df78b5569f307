"""What `onceq up` runs on one machine: the embedded redis-server, the processes, and the choice real or simulated."""
