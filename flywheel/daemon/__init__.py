"""The running process: its threads, its checks, and what it announces."""
