"""What a model computes: `trace` it to a `Graph` of calls, rewrite it with `passes`."""

from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.graph import Graph, Node, Samples, Spec, Value
from innvest_lite.graph.trace import all_layers, trace

__all__ = ["Graph", "Node", "Samples", "Slot", "Spec", "Value", "all_layers", "trace"]
