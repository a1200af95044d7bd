"""What others read: the published folder, exported tables, and their SQL."""
