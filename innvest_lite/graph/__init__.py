"""What a model computes: `trace` it to a `Graph` of calls, rewrite it with `passes`."""

from innvest_lite.graph.graph import Graph, Node, Slot, Spec, Value
from innvest_lite.graph.trace import all_layers, trace

__all__ = ["Graph", "Node", "Slot", "Spec", "Value", "all_layers", "trace"]
