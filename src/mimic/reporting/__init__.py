"""Parts of the report: published files read back, the plain conclusion, pictures, charts, the
page."""
