"""Pictures of explanations: NumPy arrays in, uint8 RGB arrays out, with Pillow and nothing heavier.

`heatmap` (contributions), `project` (signals such as PatternNet's), `channels` (each channel of a signal) and `overlay` (a
heat map on its image) make pictures from arrays; `series` (1-D), `slices` (3-D) and `bars` (tables) from explanations of
other inputs, `tokens` HTML from a text's. `panel` puts a photograph beside its explanations, `grid` lays pictures out with
labels, `caption` writes below one; `save` writes one to a file, `show` puts them on the screen. Called by users and the
command line.

Makers of images read an array by its rank, and answer one picture or a batch of them alike:

| rank | meaning                            | pictures                  |
|------|------------------------------------|---------------------------|
| 4    | `(batch, height, width, channels)` | `(batch, height, width, 3)` |
| 3    | one, `(height, width, channels)`   | `(height, width, 3)`      |
| 2    | one without channels, `(height, width)` | `(height, width, 3)` |

A batch without channels, `(batch, height, width)`, cannot be told from rank 3: hand over `array[..., None]`.

`explain` does all of it in one call, from a model and a photograph to a picture. It needs analyzers, so it stands in
`innvest_lite.pictured`, and is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from innvest_lite.visualize.bars import bars
from innvest_lite.visualize.captions import caption
from innvest_lite.visualize.colormaps import COLORMAPS
from innvest_lite.visualize.files import save
from innvest_lite.visualize.grids import grid
from innvest_lite.visualize.panels import panel
from innvest_lite.visualize.pictures import channels, heatmap, overlay, project
from innvest_lite.visualize.series import series
from innvest_lite.visualize.showing import show
from innvest_lite.visualize.tokens import tokens
from innvest_lite.visualize.volumes import slices

if TYPE_CHECKING:
    from innvest_lite.pictured import ImageExplanation as ImageExplanation, explain as explain

__all__ = [
    "COLORMAPS",
    "ImageExplanation",
    "bars",
    "caption",
    "channels",
    "explain",
    "grid",
    "heatmap",
    "overlay",
    "panel",
    "project",
    "save",
    "series",
    "show",
    "slices",
    "tokens",
]


def __getattr__(name: str) -> Any:
    if name in ("ImageExplanation", "explain"):
        from innvest_lite import pictured

        return getattr(pictured, name)
    raise AttributeError(f"module 'innvest_lite.visualize' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
