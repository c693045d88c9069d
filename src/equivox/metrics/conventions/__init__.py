"""What other tools report for the same masks, computed by our own code, and why it differs from what we report."""
