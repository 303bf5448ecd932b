"""Networks and their parts. Nothing here opens a file or knows a study, a split or a metric."""
