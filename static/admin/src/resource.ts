// Data of the gateway in components: loaded when its key changes, kept while it is loaded again.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Problem, type Page } from "./api";

export interface Resource<T> {
  data: T | null;
  fault: Problem | null;
  isLoading: boolean;
  reload: () => void;
  /** Puts a value in place, such as the answer of a change. */
  set: (value: T) => void;
}

/** What a load that failed is shown as. */
export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, String(error), "");
}

/**
 * Loads data; `key` says what it is about: null loads nothing. With `every` (milliseconds) it is loaded again
 * while the page is visible.
 */
export function useResource<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  { every = 0 }: { every?: number } = {},
): Resource<T> {
  const [state, setState] = useState<{ key: string | null; data: T | null; fault: Problem | null }>(
    { key: null, data: null, fault: null });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    if (key === null) return;
    const controller = new AbortController();
    latest.current(controller.signal).then(
      (data) => setState({ key, data, fault: null }),
      (error: unknown) => {
        if (controller.signal.aborted) return;
        setState((before) => ({ key, data: before.key === key ? before.data : null, fault: asProblem(error) }));
      },
    );
    return () => controller.abort();
  }, [key, turn]);

  const reload = useCallback(() => setTurn((it) => it + 1), []);
  useEffect(() => {
    if (!every) return;
    const timer = setInterval(() => document.hidden || reload(), every);
    return () => clearInterval(timer);
  }, [every, reload]);

  const isCurrent = state.key === key;
  return {
    data: isCurrent ? state.data : null,
    fault: isCurrent ? state.fault : null,
    isLoading: key !== null && !isCurrent,
    reload,
    set: useCallback((data: T) => setState({ key, data, fault: null }), [key]),
  };
}

export interface Pages<Row, Answer> {
  rows: Row[];
  first: Answer | null;
  fault: Problem | null;
  isLoading: boolean;
  /** Loads the next page; null at the end. */
  more: (() => void) | null;
  reload: () => void;
}

/** Loads a list page by page. */
export function usePages<Row, Answer extends Page<Row> = Page<Row>>(
  key: string | null,
  load: (cursor: string | number | null, signal: AbortSignal) => Promise<Answer>,
): Pages<Row, Answer> {
  interface State {
    key: string | null;
    rows: Row[];
    first: Answer | null;
    next: string | number | null;
    fault: Problem | null;
  }
  const empty: State = { key: null, rows: [], first: null, next: null, fault: null };
  const [state, setState] = useState<State>(empty);
  const [turn, setTurn] = useState(0);
  const [isMore, setMore] = useState(false);
  const latest = useRef(load);
  latest.current = load;
  const wanted = useRef(key);
  wanted.current = key;

  useEffect(() => {
    if (key === null) return;
    const controller = new AbortController();
    latest.current(null, controller.signal).then(
      (first) => setState({ key, rows: first.rows, first, next: first.next, fault: null }),
      (error: unknown) => {
        if (!controller.signal.aborted) setState({ ...empty, key, fault: asProblem(error) });
      },
    );
    return () => controller.abort();
  }, [key, turn]);

  const isCurrent = state.key === key;
  const more = isCurrent && state.next !== null && !isMore
    ? () => {
      setMore(true);
      latest.current(state.next, new AbortController().signal)
        .then(
          (page) => {
            if (wanted.current !== key) return;
            setState((it) => ({ ...it, rows: [...it.rows, ...page.rows], next: page.next, fault: null }));
          },
          (error: unknown) => setState((it) => ({ ...it, fault: asProblem(error) })),
        )
        .finally(() => setMore(false));
    }
    : null;
  return {
    rows: isCurrent ? state.rows : [],
    first: isCurrent ? state.first : null,
    fault: isCurrent ? state.fault : null,
    isLoading: (key !== null && !isCurrent) || isMore,
    more,
    reload: useCallback(() => setTurn((it) => it + 1), []),
  };
}
