"""Commands that judge, and that show how something was judged."""
