"""What all charts have in common: colours, resolution, and plain axes. Start at `PHASES`.

The templates of .dvc/plots and the report's page have the same colours; tests hold them to it.
"""

# Colours of phases in their order, from the head on: neighbours, and any two of the first five, differ for colour-blind
# eyes too, in lightness as well as in hue; each has a contrast of 3 and more on white, and those of PHASES_DARK, for
# the same phases, on a dark page.
PHASES = ("#1457a8", "#0f9e90", "#c8740a", "#8f1d50", "#9a6ad6", "#4d6b12", "#d0568f", "#3d4450")
PHASES_DARK = ("#4f93f0", "#63e3cb", "#f0a23c", "#d6457f", "#cdb8ff", "#86a637", "#f7c3e3", "#8d97a6")

# Text, text of less weight, and lines of a grid.
INK, SOFT, RULE = "#1c2330", "#5a6475", "#dfe3ea"

# Frames and captions of images that are classified correctly, and of misclassified ones.
CORRECT, WRONG = "#1a7f37", "#c62828"

# Pixels of a chart per inch.
DPI = 150


def phase_color(number: int) -> str:
    """The colour of a phase by its number in the chain, 0 for the head; more phases than colours start anew."""
    return PHASES[number % len(PHASES)]


def new_chart(width: float, height: float):
    """An empty figure of this size in inches."""
    # Without pyplot, which takes longer to import and keeps global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def plain(axes) -> None:
    """Axes without a frame at the top and on the right, in soft colours, with a pale horizontal grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(color=SOFT, labelcolor=SOFT)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
