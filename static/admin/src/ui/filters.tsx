// The bar of filters: each field is a value of the address.

import { useEffect, useRef, useState } from "preact/hooks";
import { texts } from "../i18n";
import { param, place, setParams } from "../router";
import { Button } from "./basics";
import { Icon } from "./icons";

const t = texts({
  filters: "Filters", clear: "Clear filters", any: "Any",
}, {
  filters: "Filter", clear: "Filter löschen", any: "Alle",
});

export interface Filter {
  name: string;
  label: string;
  kind?: "search" | "text" | "select" | "time";
  options?: readonly (readonly [value: string, text: string])[];
  placeholder?: string;
  /** The text of the choice of nothing, by default "Any"; null if there is none. */
  any?: string | null;
}

const TYPING_MS = 250;

function TextFilter({ filter }: { filter: Filter }) {
  const value = param(filter.name);
  const [typed, setTyped] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useEffect(() => {
    // The address changed by something else than this field.
    if (value !== sent.current) setTyped(value);
    sent.current = value;
  }, [value]);
  const put = (text: string) => {
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = text.trim();
      setParams({ [filter.name]: text.trim() }, { replace: true });
    }, TYPING_MS) as unknown as number;
  };
  const isSearch = filter.kind === "search";
  return (
    <label class={`field ${isSearch ? "search" : ""}`}>
      <span>{filter.label}</span>
      <span class="box">
        {isSearch && <Icon name="search" />}
        <input
          {...(isSearch ? { type: "search" as const, "data-search": true } : { type: "text" as const, list: undefined })} value={typed}
          placeholder={filter.placeholder} spellcheck={false} autocomplete="off" onInput={(event) => put(event.currentTarget.value)}
        />
      </span>
    </label>
  );
}

function ChoiceFilter({ filter }: { filter: Filter }) {
  const value = param(filter.name);
  const options = filter.options ?? [];
  const isKnown = value === "" || options.some(([it]) => it === value);
  return (
    <label class="field">
      <span>{filter.label}</span>
      <select value={value} onChange={(event) => setParams({ [filter.name]: event.currentTarget.value })}>
        {filter.any !== null && <option value="">{filter.any ?? t("any")}</option>}
        {!isKnown && <option value={value}>{value}</option>}
        {options.map(([it, text]) => <option key={it} value={it}>{text}</option>)}
      </select>
    </label>
  );
}

/** A moment as the field of a browser writes it, in the zone of the browser. */
const local = (at: string): string => {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

function TimeFilter({ filter }: { filter: Filter }) {
  const put = (text: string) =>
    setParams({ [filter.name]: text === "" ? null : new Date(text).toISOString() }, { replace: true });
  return (
    <label class="field">
      <span>{filter.label}</span>
      <input type="datetime-local" value={local(param(filter.name))} onChange={(event) => put(event.currentTarget.value)} />
    </label>
  );
}

/** The filters of a screen; on small screens they fold. */
export function Filters({ filters }: { filters: readonly Filter[] }) {
  const used = filters.filter((it) => it.any !== null && place.value.query.get(it.name)).length;
  const [isOpen, setOpen] = useState(false);
  const clear = () => setParams(Object.fromEntries(filters.filter((it) => it.any !== null).map((it) => [it.name, null])));
  return (
    <search class={`filters ${isOpen ? "open" : ""}`}>
      <button type="button" class="button fold" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <Icon name="filter" />{t("filters")}{used > 0 && <b class="count">{used}</b>}
      </button>
      <form class="fields" onSubmit={(event) => event.preventDefault()} aria-label={t("filters")}>
        {filters.map((filter) =>
          filter.kind === "select" ? <ChoiceFilter key={filter.name} filter={filter} />
          : filter.kind === "time" ? <TimeFilter key={filter.name} filter={filter} />
          : <TextFilter key={filter.name} filter={filter} />)}
        {used > 0 && <Button kind="quiet" icon="clear" onClick={clear}>{t("clear")}</Button>}
      </form>
    </search>
  );
}
