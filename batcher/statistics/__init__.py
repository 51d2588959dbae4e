"""What samples say: intervals, comparisons, bounds that may be looked at again and again, sample sizes."""
