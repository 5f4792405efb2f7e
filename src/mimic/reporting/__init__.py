"""Parts of the report: published files read back, the plain conclusion, pictures, charts, the
page."""

# Raise it when the same results make another page, figure or table. DVC reads it.
REPORT_VERSION = 7
