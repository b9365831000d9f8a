// The web vitals of a page, as one event when it is left: TTFB, FCP, LCP, CLS and INP as their
// definitions have them (web.dev/articles/vitals), in ms and for CLS in its own unit.
type Shift = PerformanceEntry & { value: number; hadRecentInput: boolean };
type Interaction = PerformanceEntry & { interactionId?: number };

function start(): void {
  const values: Record<string, number> = {};
  const observers: [PerformanceObserver, (entries: PerformanceEntry[]) => void][] = [];
  const observe = (type: string, see: (entries: PerformanceEntry[]) => void, more?: object) => {
    try {
      const observer = new PerformanceObserver((list) => see(list.getEntries()));
      observer.observe({ type, buffered: true, ...more });
      observers.push([observer, see]);
    } catch {} // A browser that does not measure it.
  };
  let isHidden = document.visibilityState === "hidden";

  observe("navigation", ([entry]) => {
    values.ttfb = (entry as PerformanceNavigationTiming).responseStart;
  });
  observe("paint", (entries) => {
    for (const entry of entries) {
      if (entry.name === "first-contentful-paint" && !isHidden) values.fcp = entry.startTime;
    }
  });
  observe("largest-contentful-paint", (entries) => {
    if (!isHidden && !isTouched) values.lcp = entries[entries.length - 1].startTime;
  });
  let isTouched = false;
  for (const name of ["keydown", "pointerdown"]) {
    addEventListener(name, () => (isTouched = true), { once: true, capture: true });
  }

  // The largest session of shifts: at most 5 s long, with gaps below 1 s.
  let session = 0;
  let first = 0;
  let last = 0;
  observe("layout-shift", (entries) => {
    values.cls = values.cls || 0;
    for (const entry of entries as Shift[]) {
      if (entry.hadRecentInput) continue;
      const at = entry.startTime;
      if (session && at - last < 1000 && at - first < 5000) session += entry.value;
      else [session, first] = [entry.value, at];
      last = at;
      values.cls = Math.max(values.cls, session);
    }
  });

  // The longest interaction, but for one of each fifty.
  const longest = new Map<number, number>();
  const seen = new Set<number>();
  observe(
    "event",
    (entries) => {
      for (const { interactionId: id, duration } of entries as Interaction[]) {
        if (!id) continue;
        seen.add(id);
        longest.set(id, Math.max(longest.get(id) || 0, duration));
      }
      const sorted = Array.from(longest).sort((a, b) => b[1] - a[1]).slice(0, 10);
      longest.clear();
      sorted.forEach(([id, duration]) => longest.set(id, duration));
      const place = Math.min(sorted.length - 1, Math.floor(seen.size / 50));
      if (place >= 0) values.inp = sorted[place][1];
    },
    { durationThreshold: 40 },
  );

  let isTold = false;
  const tell = () => {
    observers.forEach(([observer, see]) => {
      const entries = observer.takeRecords();
      if (entries.length) see(entries);
    });
    isHidden = true;
    if (isTold || !Object.keys(values).length) return;
    isTold = true;
    for (const name of Object.keys(values)) values[name] = Math.round(values[name] * 1e4) / 1e4;
    window.tagway.track("Web Vitals", values);
    window.tagway.flush();
  };
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && tell(), true);
  addEventListener("pagehide", tell, true);
}

start();
