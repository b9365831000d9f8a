// Tables: aligned numbers, one link a row, and cards instead of columns where there is no room.

import type { ComponentChildren } from "preact";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ComponentChildren;
  /** Numbers align at their end. */
  isNumber?: boolean;
  /** The first to go where there is little room. */
  isMinor?: boolean;
  /** Takes the room that is left, and cuts its text. */
  isWide?: boolean;
  /** A column of buttons: its heading is for screen readers. */
  isActions?: boolean;
}

/**
 * A table. `href` makes the first cell of each row a link, which j and k move along; `current` marks the row
 * that is open.
 */
export function Table<Row>({ caption, columns, rows, rowKey, href, current }: {
  caption: string;
  columns: Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string | number;
  href?: (row: Row) => string | null;
  current?: (row: Row) => boolean;
}) {
  const classes = (column: Column<Row>) =>
    [column.isNumber && "number", column.isMinor && "minor", column.isWide && "wide", column.isActions && "acts"]
      .filter(Boolean).join(" ") || undefined;
  // The roles stay where the style sheet turns rows into cards, which would take them away.
  return (
    <table class="table" role="table">
      <caption class="sr">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.head} role="columnheader" scope="col" class={classes(column)}>
              {column.isActions ? <span class="sr">{column.head}</span> : column.head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => {
          const target = href?.(row);
          return (
            <tr key={rowKey(row)} role="row" class={target ? "linked" : undefined} aria-current={current?.(row) ? "true" : undefined}>
              {columns.map((column, index) => (
                <td key={column.head} role="cell" class={classes(column)} data-label={column.head}>
                  {index === 0 && target ? <a class="row-link" data-row href={target}>{column.cell(row)}</a> : column.cell(row)}
                </td>
              ))}
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
