"""What BI tools read beside the views: extracts and sources."""
