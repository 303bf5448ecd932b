"""From what a data set's authors publish to a store: read in blocks, cleaned by named steps, aligned, continued."""
