"""What verify is made of: the lake's minutes, the warehouse's own rules, and the report. Nothing here writes."""
