"""Products of matrices that are the same bits on every processor.

BLAS sums in an order that depends on the processor and on the number of threads, so that its products differ in the last
digits. Where all partial sums are exact the order does not matter. Rows that are rounded to 26 bits of their length have
products of at most 53 bits, which float64 holds (the splitting of Ozaki et al. 2012, doi 10.1007/s11075-011-9478-1).
"""

import numpy as np

BITS = 26


def squares(x: np.ndarray) -> np.ndarray:
    """`|x_i|^2` of every row, `(n,)`."""
    found: np.ndarray = np.einsum("ij,ij->i", x, x)
    return found


def rounded(x: np.ndarray, lengths: np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
    """Rows `(n, dim)` to multiples of `2^-26 2^e`, `2^e` the power of two above their length (given, if it is known).

    `rounded(x) @ rounded(y).T` is exact: by Cauchy and Schwarz no partial sum takes more than 53 bits.
    """
    _, e = np.frexp(np.sqrt(squares(x)) if lengths is None else lengths)
    large = np.ldexp(1.5, e + (52 - BITS))[:, None]  # its last bit is worth one multiple, to which a sum with it is rounded
    multiples: np.ndarray = np.add(x, large, out=out)
    multiples -= large
    return multiples


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`x_i . y_j` in float64, `(len(x), len(y))`, for rows `(n, dim)`: to `dim 2^-54 |x_i| |y_j|`."""
    x_high, y_high = rounded(x), rounded(y)
    x_low, y_low = rounded(x - x_high), rounded(y - y_high)
    found: np.ndarray = x_high @ y_high.T + (x_high @ y_low.T + x_low @ y_high.T)
    return found
