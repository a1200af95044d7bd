"""Commands that look and change nothing, fast and on one screen; and the one that changes a threshold."""
