"""The size of pages of listings."""

PAGE_BYTES = 4_000_000
"""The most bytes of a page, as stored documents and as JSON. A page with one item may be larger."""
