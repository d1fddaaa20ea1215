"""Merge marks of equal style into one SVG path, so that a page of 1,000 trials stays small enough to mail."""

import re

BETWEEN = re.escape('</g></g></g><g transform="translate(0,0)"><g><g>')
LINES = re.compile(
    rf'<path d="[^"]*"( stroke="[^"]*" stroke-width="[^"]*" opacity="[^"]*"/>)(?:{BETWEEN}<path d="[^"]*"\1)+'
)
OPENING, WIDTH = r'<path transform="translate\([-\d.]+,[-\d.]+\)" ', r'(?: stroke-width="[\d.]+")?'
MARKS = re.compile(
    rf'{OPENING}(d="[^"]*") (fill="[^"]*"){WIDTH}((?: opacity="[\d.]+")?)/>(?:{OPENING}\1 \2{WIDTH}\3/>)+'
)
PATH = re.compile(r'(?<= d=")[^"]*')
PLACE = re.compile(r"translate\(([-\d.]+),([-\d.]+)\)")
CIRCLE = re.compile(r'd="M([\d.]+),0A')
STEP = re.compile(r"([MLHVZ])([-\d.,]*)")


def merged(svg: str) -> str:
    """Merge runs of thin lines of one style, and of marks of one shape and style, into one path each."""
    svg = LINES.sub(lambda run: f'<path d="{"".join(PATH.findall(run[0]))}"{run[1]}', svg)
    return MARKS.sub(_joined, svg)


def _joined(run: re.Match[str]) -> str:
    places = PLACE.findall(run[0])
    circle = CIRCLE.match(run[1])
    if circle is not None:  # a zero-length stroke with round caps is a dot
        dots = "".join(f"M{x},{y}h0" for x, y in places)
        look = run[2].replace("fill=", "stroke=")
        return f'<path d="{dots}" {look} stroke-width="{_short(2 * float(circle[1]))}" stroke-linecap="round"{run[3]}/>'
    outline = _outline(run[1][3:-1])
    if outline is None:
        return run[0]
    (dx, dy), tail = outline
    shapes = "".join(f"M{_short(float(x) + dx)},{_short(float(y) + dy)}{tail}" for x, y in places)
    return f'<path d="{shapes}" {run[2]}{run[3]}/>'


def _outline(path: str) -> tuple[tuple[float, float], str] | None:
    """Start of a polygon and its remaining corners as relative steps; None for a path with curves."""
    steps = STEP.findall(path)
    if "".join(letter + numbers for letter, numbers in steps) != path or path.count("M") != 1:
        return None
    x = y = 0.0
    start, tail = (0.0, 0.0), ""
    for letter, numbers in steps:
        if letter == "Z":
            tail += "z"
            continue
        values = [float(number) for number in numbers.split(",")]
        to_x = x if letter == "V" else values[0]
        to_y = y if letter == "H" else values[-1]
        if letter == "M":
            start = (to_x, to_y)
        else:
            tail += f"l{_short(to_x - x)},{_short(to_y - y)}"
        x, y = to_x, to_y
    return start, tail


def _short(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
