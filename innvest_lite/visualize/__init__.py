"""Pictures of explanations: NumPy arrays in, uint8 RGB arrays out, with Pillow and nothing heavier.

`heatmap` (contributions), `project` (signals such as PatternNet's) and `overlay` (a heat map on its image) each make
pictures from arrays; `grid` lays pictures out with labels; `save` writes one. Called by users and the command line.

All three makers read an array by its rank, and answer one picture or a batch of them alike:

| rank | meaning                            | pictures                  |
|------|------------------------------------|---------------------------|
| 4    | `(batch, height, width, channels)` | `(batch, height, width, 3)` |
| 3    | one, `(height, width, channels)`   | `(height, width, 3)`      |
| 2    | one without channels, `(height, width)` | `(height, width, 3)` |

A batch without channels, `(batch, height, width)`, cannot be told from rank 3: hand over `array[..., None]`.
"""

from innvest_lite.visualize.colormaps import COLORMAPS
from innvest_lite.visualize.files import save
from innvest_lite.visualize.grids import grid
from innvest_lite.visualize.pictures import heatmap, overlay, project

__all__ = ["COLORMAPS", "grid", "heatmap", "overlay", "project", "save"]
