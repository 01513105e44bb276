/** How many columns show `count` pictures of 16:9 largest in a box. Pure. */

const ASPECT = 16 / 9;

export interface Grid {
  readonly columns: number;
  readonly rows: number;
}

export function bestGrid(count: number, width: number, height: number, gap = 8): Grid {
  let best: Grid = { columns: 1, rows: Math.max(1, count) };
  let bestWidth = 0;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    const pictureWidth = Math.min(cellWidth, cellHeight * ASPECT);
    if (pictureWidth > bestWidth) {
      bestWidth = pictureWidth;
      best = { columns, rows };
    }
  }
  return best;
}
