"""An attribution toolkit for Keras 3."""
