// Charts in SVG: sizes are attributes, never styles; each has a table for those who do not see it.

import { count, moment, part } from "../format";
import { texts } from "../i18n";
import type { Tone } from "../words";

const t = texts({
  time: "Time", value: "Value", share: "Share", part: "Part", none: "no data", highest: "highest {value}",
}, {
  time: "Zeit", value: "Wert", share: "Anteil", part: "Teil", none: "keine Daten", highest: "höchstens {value}",
});

/** The rows of a chart's table: more would only be read out for long. */
const TABLE_ROWS = 24;

type Points = readonly (number | null)[];

const WIDTH = 240;
const HEIGHT = 48;

const format = (value: number) => count(value);

/** A line of values over time. Within a row of a table it is `bare`: a table there would be one too many. */
export function Sparkline({ points, from, step, label, tone = "info", height = HEIGHT, bare = false }: {
  points: Points; from: string; step: number; label: string; tone?: Tone; height?: number; bare?: boolean;
}) {
  const known = points.filter((it) => it !== null);
  const top = Math.max(1, ...known);
  const x = (index: number) => (points.length < 2 ? 0 : (index / (points.length - 1)) * WIDTH);
  const y = (value: number) => height - 2 - (value / top) * (height - 6);
  // Gaps of the data are gaps of the line.
  const runs: [number, number][][] = [];
  points.forEach((value, index) => {
    if (value === null) return;
    if (index === 0 || points[index - 1] === null) runs.push([]);
    runs.at(-1)?.push([x(index), y(value)]);
  });
  const line = (run: [number, number][]) => run.map(([a, b], index) => `${index ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  return (
    <figure class={`chart ${tone}`}>
      <svg viewBox={`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" height={height} role="img" aria-label={`${label}: ${known.length ? t("highest", { value: format(top) }) : t("none")}`}>
        <line class="base" x1="0" x2={WIDTH} y1={height - 1.5} y2={height - 1.5} />
        {runs.map((run, index) => (
          <g key={index}>
            <path class="area" d={`${line(run)}L${run.at(-1)?.[0].toFixed(1)} ${height - 2}L${run[0]?.[0].toFixed(1)} ${height - 2}Z`} />
            <path class="line" d={run.length > 1 ? line(run) : `${line(run)}h1`} />
          </g>
        ))}
      </svg>
      {!bare && <SeriesTable label={label} from={from} step={step} rows={[{ name: t("value"), points }]} />}
    </figure>
  );
}

export interface Stack {
  name: string;
  tone: Tone;
  points: Points;
}

/** Bars over time, one part upon the other. */
export function StackedBars({ stacks, from, step, label, height = 120 }: {
  stacks: readonly Stack[]; from: string; step: number; label: string; height?: number;
}) {
  const length = Math.max(0, ...stacks.map((it) => it.points.length));
  const sum = (index: number) => stacks.reduce((all, it) => all + (it.points[index] ?? 0), 0);
  const top = Math.max(1, ...Array.from({ length }, (_, index) => sum(index)));
  const wide = WIDTH * 3;
  const slot = wide / Math.max(1, length);
  const gap = Math.min(2, slot * 0.2);
  const start = new Date(from).getTime();
  return (
    <figure class="chart bars">
      <svg viewBox={`0 0 ${wide} ${height}`} preserveAspectRatio="none" height={height} role="img" aria-label={`${label}: ${t("highest", { value: format(top) })}`}>
        <line class="base" x1="0" x2={wide} y1={height - 0.5} y2={height - 0.5} />
        {Array.from({ length }, (_, index) => {
          let below = 0;
          return (
            <g key={index}>
              <title>{`${moment(start + index * step * 1000)}: ${stacks.map((it) => `${it.name} ${format(it.points[index] ?? 0)}`).join(", ")}`}</title>
              <rect class="hover" x={index * slot} y={0} width={slot} height={height} />
              {stacks.map((stack) => {
                const size = ((stack.points[index] ?? 0) / top) * (height - 4);
                below += size;
                return size > 0 && <rect key={stack.name} class={stack.tone} x={index * slot + gap / 2} y={height - below} width={slot - gap} height={size} />;
              })}
            </g>
          );
        })}
      </svg>
      <div class="axis" aria-hidden="true"><span>{moment(start)}</span><span>{moment(start + length * step * 1000)}</span></div>
      <ul class="legend">{stacks.map((it) => <li key={it.name} class={it.tone}>{it.name}</li>)}</ul>
      <SeriesTable label={label} from={from} step={step} rows={stacks} />
    </figure>
  );
}

function SeriesTable({ label, from, step, rows }: {
  label: string; from: string; step: number; rows: readonly { name: string; points: Points }[];
}) {
  const length = Math.max(0, ...rows.map((it) => it.points.length));
  const size = Math.max(1, Math.ceil(length / TABLE_ROWS));
  const start = new Date(from).getTime();
  const sum = (points: Points, index: number) => points.slice(index * size, (index + 1) * size).reduce<number>((all, it) => all + (it ?? 0), 0);
  // A table does not keep to the size of what only screen readers see; the box around it does.
  return (
    <div class="sr"><table>
      <caption>{label}</caption>
      <thead><tr><th scope="col">{t("time")}</th>{rows.map((it) => <th key={it.name} scope="col">{it.name}</th>)}</tr></thead>
      <tbody>
        {Array.from({ length: Math.ceil(length / size) }, (_, index) => (
          <tr key={index}>
            <th scope="row">{moment(start + index * size * step * 1000)}</th>
            {rows.map((it) => <td key={it.name}>{format(sum(it.points, index))}</td>)}
          </tr>
        ))}
      </tbody>
    </table></div>
  );
}

export interface Part {
  label: string;
  tone: Tone;
  value: number;
  href?: string | undefined;
}

/** The parts of a whole in one bar, with a legend that has the numbers. */
export function ShareBar({ label, parts, total = parts.reduce((all, it) => all + it.value, 0) }: {
  label: string; parts: readonly Part[]; total?: number;
}) {
  let before = 0;
  const wide = 1000;
  return (
    <figure class="share">
      <svg viewBox={`0 0 ${wide} 10`} preserveAspectRatio="none" height="10" aria-hidden="true">
        <rect class="empty-bar" width={wide} height="10" />
        {parts.map((it) => {
          // A part that exists is seen, however small it is.
          const size = it.value === 0 ? 0 : Math.max(4, (it.value / Math.max(1, total)) * wide);
          const x = Math.min(before, wide - size);
          before += size;
          return size > 0 && <rect key={it.label} class={it.tone} x={x} width={size} height="10" />;
        })}
      </svg>
      <dl class="parts" aria-label={label}>
        {parts.map((it) => (
          <div key={it.label} class={it.tone}>
            <dt>{it.label}</dt>
            <dd>{it.href ? <a href={it.href}>{count(it.value)}</a> : count(it.value)} <small>{part(it.value, total)}</small></dd>
          </div>
        ))}
      </dl>
    </figure>
  );
}

/** A share of one as a bar beside its number. */
export function Meter({ value, tone = "info", label }: { value: number; tone?: Tone; label: string }) {
  const wide = Math.max(0, Math.min(1, value)) * 100;
  return (
    <svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" height="6" role="img" aria-label={label}>
      <rect class="empty-bar" width="100" height="6" />
      <rect class={tone} width={wide} height="6" />
    </svg>
  );
}
