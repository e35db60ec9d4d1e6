"""Small pictures, drawn with NumPy alone, so that every environment of the project's own can be filmed anywhere."""

import numpy as np

BLACK, GREY, RED, GREEN, BLUE = (30, 30, 30), (200, 200, 200), (200, 60, 50), (60, 150, 70), (60, 90, 170)


def blank(height: int, width: int) -> np.ndarray:
    """A white picture, uint8 [H, W, 3]."""
    return np.full((height, width, 3), 255, np.uint8)


def draw_line(
    picture: np.ndarray, start: tuple[float, float], end: tuple[float, float], width: float, colour: tuple
) -> None:
    """A line with round ends, in place; points are (x, y) in pixels from the upper left corner."""
    y, x = np.indices(picture.shape[:2])
    along = np.subtract(end, start)
    length = float(along @ along)
    # How far along the line, from 0 to 1, its point nearest to each pixel lies.
    part = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(length, 1e-9)
    part = np.clip(part, 0.0, 1.0)
    distance = np.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1])
    picture[distance <= width / 2] = colour


def draw_box(picture: np.ndarray, left: int, top: int, width: int, height: int, colour: tuple) -> None:
    """A filled box, in place."""
    picture[top : top + height, left : left + width] = colour


def draw_cart(x: float, angles: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A cart at x metres on a track of ±2.4 m, with poles of `lengths` metres at `angles` from upright."""
    picture = blank(200, 400)
    scale, ground = 80.0, 160
    draw_line(picture, (8, ground + 12), (392, ground + 12), 2, GREY)
    centre = 200 + scale * x
    draw_line(picture, (centre - 20, ground), (centre + 20, ground), 18, BLACK)
    for angle, length in zip(angles, lengths, strict=True):
        tip = (centre + scale * length * np.sin(angle), ground - 8 - scale * length * np.cos(angle))
        draw_line(picture, (centre, ground - 8), tip, 6, RED)
    return picture


def draw_symbols(count: int, shown: int | None, asked: bool = False) -> np.ndarray:
    """`count` lamps, of which the one that is `shown` is lit; a frame where an answer is asked for."""
    picture = blank(60, 40 * count + 20)
    if asked:
        picture[:4] = picture[-4:] = picture[:, :4] = picture[:, -4:] = GREEN
    for symbol in range(count):
        draw_line(picture, (30 + 40 * symbol, 30), (30 + 40 * symbol, 30), 26, BLUE if symbol == shown else GREY)
    return picture
