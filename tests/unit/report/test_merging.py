"""Marks that look alike become one path, at the same places, and nothing else changes."""

import re

from fathomlab.report.merging import merged

DOT = 'd="M2.5,0A2.5,2.5,0,1,1,-2.5,0A2.5,2.5,0,1,1,2.5,0" fill="var(--s1)" stroke-width="2" opacity="0.5"'
TRIANGLE = 'd="M0,-2.2L2.2,1.6L-2.2,1.6Z" fill="var(--s2)" stroke-width="2" opacity="0.5"'


def test_dots_of_one_look_are_one_path():
    """A zero-length stroke per position, as wide as the dot. Other colors and single marks are not merged."""
    other = DOT.replace("s1", "s3")
    marks = [f'<path transform="translate({x},7.5)" {DOT}/>' for x in (1, 2.5)]
    alone = f'<path transform="translate(9,9)" {other}/>'
    assert merged("<g>" + "".join(marks) + alone + "</g>") == (
        '<g><path d="M1,7.5h0M2.5,7.5h0" stroke="var(--s1)" stroke-width="5" stroke-linecap="round" opacity="0.5"/>'
        f"{alone}</g>"
    )


def test_polygons_keep_their_corners():
    """The corners of each triangle, added up from the steps of the merged path."""
    places = [(10.0, 20.0), (30.5, 4.0)]
    text = merged("".join(f'<path transform="translate({x},{y})" {TRIANGLE}/>' for x, y in places))
    assert text.count("<path") == 1
    found: list[list[tuple[float, float]]] = []
    for shape in re.findall(r"M[^M\"]*", text.split('d="')[1].split('"')[0]):
        numbers = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", shape)]
        corners = [numbers[0]]
        for dx, dy in numbers[1:]:
            corners.append((round(corners[-1][0] + dx, 3), round(corners[-1][1] + dy, 3)))
        found.append([(x, y) for x, y in corners])
    expected = [[(x, y - 2.2), (x + 2.2, y + 1.6), (x - 2.2, y + 1.6)] for x, y in places]
    assert [[tuple(round(n, 3) for n in corner) for corner in shape] for shape in found] == [
        [tuple(round(n, 3) for n in corner) for corner in shape] for shape in expected
    ]


def test_thin_lines_are_joined_and_thick_ones_are_not():
    """Runs of one color are merged, together with their wrappers."""
    between = '</g></g></g><g transform="translate(0,0)"><g><g>'
    look = 'stroke="var(--s1)" stroke-width="0.7" opacity="0.4"/>'
    thin = f'<path d="M0,1L2,3" {look}{between}<path d="M0,2L2,4" {look}'
    assert merged(thin) == f'<path d="M0,1L2,3M0,2L2,4" {look}'
    thick = thin.replace(' opacity="0.4"', "")
    assert merged(thick) == thick
    assert merged(thin.replace("s1", "s2", 1)) == thin.replace("s1", "s2", 1)
