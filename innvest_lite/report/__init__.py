"""One page to look at explanations: images by methods, in a single HTML file that needs no network.

In: images, the model's outputs, explanations by method. Out: HTML. `page` writes it, with `page.css` and
`page.js` inside; `charts` draws curves. Called by users and by `innvest-lite report`.
"""

from innvest_lite.report.page import Sample, checked_path, page, write

__all__ = ["Sample", "checked_path", "page", "write"]
