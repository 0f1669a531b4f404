"""Where results draw: on a user's axes or on new ones. The only file that imports matplotlib, and only when it draws."""


def axes_or_new(axes, figsize=None):
    """A user's matplotlib `Axes`, or, for None, those of a new figure of this size in inches."""
    import matplotlib.pyplot as plt

    return axes or plt.subplots(figsize=figsize)[1]
