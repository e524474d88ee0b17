"""What BI tools read besides the views: extracts and sources."""
