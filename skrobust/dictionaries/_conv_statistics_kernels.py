"""The loops of `ConvolutionalStatistics`."""

from skrobust.pursuits._vectors import kernel, take_number


@kernel
def write_design(maps, known, grid, kernel_size, stride, offset, wraps, next_free, values, taps, next_signal):
    """Write the entries of the design matrix at the free places of their rows; without room, count them."""
    per_atom = kernel_size[0] * kernel_size[1]
    n = take_number(next_signal)
    while n < maps.shape[0]:
        seen = known[n % known.shape[0]]
        for p in range(maps.shape[1]):
            for q in range(maps.shape[2]):
                for k in range(maps.shape[3]):
                    coefficient = maps[n, p, q, k]
                    if coefficient == 0:
                        continue
                    for u in range(kernel_size[0]):
                        y = p * stride[0] - offset[0] + u
                        if wraps:
                            y %= grid[0]
                        if y < 0 or y >= grid[0]:
                            continue
                        for v in range(kernel_size[1]):
                            x = q * stride[1] - offset[1] + v
                            if wraps:
                                x %= grid[1]
                            if x < 0 or x >= grid[1] or not seen[y, x]:
                                continue
                            place = next_free[n, y * grid[1] + x]
                            if values.size > 0:
                                values[place] = coefficient
                                taps[place] = k * per_atom + u * kernel_size[1] + v
                            next_free[n, y * grid[1] + x] = place + 1
        n = take_number(next_signal)


@kernel
def add_gram(column_data, column_rows, column_starts, data, indices, starts, gram, next_row):
    """Add S^T S, a thread a row: the result does not depend on their number."""
    f = take_number(next_row)
    while f < gram.shape[0]:
        row = gram[f]
        for c in range(column_starts[f], column_starts[f + 1]):
            coefficient = column_data[c]
            pixel = column_rows[c]
            for e in range(starts[pixel], starts[pixel + 1]):
                row[indices[e]] += coefficient * data[e]
        f = take_number(next_row)
