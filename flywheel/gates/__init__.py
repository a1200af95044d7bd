"""Who is promoted and why not, and when to retrain. Evidence and policy in, a verdict with reasons out."""
