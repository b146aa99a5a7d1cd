"""Draw a plot as SVG without a library, so that equal figures give equal bytes; it suits light and dark pages."""

import math
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LABELS, ROW = 470, 330, 58, 34, 46, 150, 14
COLOURS = ("#d1495b", "#e08e45", "#2a9d8f", "#3a86c8", "#8e6bbf", "#5f9e3a", "#b08900", "#c2569b", "#7a8793",
           "#a0715e")
STYLE = """text { font: 12px sans-serif; fill: #24292f } .axis { stroke: #8c959f; stroke-width: 1; fill: none }
.grid { stroke: #8c959f; stroke-width: .5; stroke-dasharray: 2 3; fill: none } .line { stroke-width: 1.8; fill: none }
.lead { stroke-width: .6; fill: none; opacity: .7 } .title { font-weight: bold }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de } }"""


class Axis:
    """An axis with a linear or a logarithmic scale.

    Parameters
    ----------
    ticks : dict of float to str
        Labels of values, ascending; the first and the last value are the ends of the axis.
    start, stop : float
        Positions of the ends.
    log : bool
        Use a logarithmic scale.
    """

    def __init__(self, ticks, start, stop, log):
        self.ticks, self.scale = ticks, math.log if log else float
        self.low, self.high = self.scale(min(ticks)), self.scale(max(ticks))
        self.start, self.stop = start, stop

    def __call__(self, value):
        share = (self.scale(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def holds(self, value):
        return value is not None and min(self.ticks) <= value <= max(self.ticks)


def panel(left, title, x_title, lines, x_ticks, y_ticks, log_y, colours):
    """Return the SVG of one panel.

    Parameters
    ----------
    left : float
        Where it begins.
    title, x_title : str
    lines : dict of str to list of (float, float)
        By label. What is out of the axes' range is left out.
    x_ticks, y_ticks : dict of float to str
        The horizontal axis is logarithmic.
    log_y : bool
    colours : dict of str to str
        By label.
    """
    right, bottom = left + WIDTH - LABELS, HEIGHT - BOTTOM
    x, y = Axis(x_ticks, left + LEFT, right, True), Axis(y_ticks, bottom, TOP, log_y)
    parts = [f'<text class="title" x="{left + LEFT}" y="{TOP - 16}">{escape(title)}</text>']
    for value, text in y_ticks.items():
        parts.append(f'<path class="grid" d="M{x.start:.1f} {y(value):.1f}H{x.stop:.1f}"/>'
                     f'<text x="{x.start - 6:.1f}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in x_ticks.items():
        parts.append(f'<path class="grid" d="M{x(value):.1f} {y.start:.1f}V{y.stop:.1f}"/>'
                     f'<text x="{x(value):.1f}" y="{y.start + 17:.1f}" text-anchor="middle">{text}</text>')
    middle = (x.start + x.stop) / 2
    parts.append(f'<path class="axis" d="M{x.start:.1f} {y.stop:.1f}V{y.start:.1f}H{x.stop:.1f}"/>'
                 f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_title)}</text>')
    ends = {}
    for label, points in lines.items():
        places = [(x(a), y(b)) for a, b in sorted(points) if x.holds(a) and y.holds(b)]
        if places:
            ends[label] = places[-1]
            drawn = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
            parts.append(f'<path class="line" stroke="{colours[label]}" d="M{drawn}"/>')
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="{colours[label]}"/>' for a, b in places]
    for label, height in spread({label: place[1] for label, place in ends.items()}, TOP, bottom).items():
        (a, b), colour = ends[label], colours[label]
        parts.append(f'<path class="lead" stroke="{colour}" d="M{a + 4:.1f} {b:.1f}L{right + 6} {height:.1f}"/>'
                     f'<circle cx="{right + 9}" cy="{height:.1f}" r="3" fill="{colour}"/>'
                     f'<text x="{right + 15}" y="{height + 4:.1f}">{escape(label)}</text>')
    return "\n".join(parts)


def spread(heights, top, bottom):
    """Return heights moved apart by at least one row: downwards where needed, then upwards from the bottom."""
    order = sorted(heights, key=lambda label: (heights[label], label))
    placed, least = {}, top
    for label in order:
        placed[label] = max(heights[label], least)
        least = placed[label] + ROW
    most = bottom
    for label in reversed(order):
        placed[label] = min(placed[label], most)
        most = placed[label] - ROW
    return placed


def svg(panels, note):
    """Return panels side by side as an SVG file.

    Parameters
    ----------
    panels : list of dict
        What `panel` takes, without `left` and `colours`. Labels have the same colour in all of them.
    note : str
        Below them.
    """
    labels = dict.fromkeys(label for one in panels for label in one["lines"])
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}
    drawn = "\n".join(panel(index * WIDTH, colours=colours, **one) for index, one in enumerate(panels))
    width, height = WIDTH * len(panels), HEIGHT + 22
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img">\n<style>{STYLE}</style>\n{drawn}\n'
            f'<text x="{LEFT}" y="{HEIGHT + 12}">{escape(note)}</text>\n</svg>\n')
