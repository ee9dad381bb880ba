"""The stage figures: charts and grids of images. Start at `draw.draw_figures`."""
