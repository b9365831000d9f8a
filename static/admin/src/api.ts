// The API of the gateway: its types, and the one function that calls it. Addresses are relative to the page,
// so that the console works below any path.

import { signal } from "@preact/signals";

export type Role = "viewer" | "editor" | "admin";
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Page<Row> {
  rows: Row[];
  next: string | number | null;
}

export interface Me {
  name: string;
  role: Role;
  personal: boolean;
  sites: string[] | null;
  via: "session" | "token" | "file";
  must_set_password: boolean;
  proved_until: string | null;
  oidc: boolean;
  password_login: boolean;
  version: string;
  secure: boolean;
}

export interface Account {
  id: number;
  name: string;
  role: Role;
  personal: boolean;
  sites: string[] | null;
  disabled: boolean;
  oidc: boolean;
  created_at: string;
  seen_at: string | null;
}

export interface Invitation {
  id?: number;
  link: string;
  expires_at: string;
}

export interface ApiToken {
  id: number;
  name: string;
  role: Role;
  personal: boolean;
  sites: string[] | null;
  author: string;
  created_at: string;
  expires_at: string | null;
  used_at: string | null;
}

export interface WebSession {
  id: string;
  account: string;
  created_at: string;
  seen_at: string;
  agent: string;
  network: string;
  current: boolean;
}

export interface AuditRow {
  id: number;
  at: string;
  actor: string;
  via: string;
  action: string;
  site: string | null;
  object: string | null;
  detail: string | null;
}

/** A check of some rows of the audit log. */
export interface AuditChain {
  ok: boolean;
  checked: number;
  broken_at: number | null;
}

export interface AuditPage extends Page<AuditRow> {
  chain: AuditChain;
}

export type Consent = "granted" | "denied" | null;

export interface Accepted {
  what: "accepted";
  at: string;
  site: string;
  seq: number;
  message_id: string;
  event: string;
  format: string;
  page?: string | null;
  source?: string | null;
  visitor?: string | null;
  bot?: number | null;
  consent?: string[] | null;
  country?: string | null;
}

export interface Settled {
  what: "settled";
  at: string;
  site: string;
  destination: string;
  seq: number;
  message_id: string;
  event: string;
  outcome: "delivered" | "skipped" | "dead" | "retry";
  reason: string;
  detail?: string;
  dropped?: string[];
  attempt?: number;
  milliseconds?: number | null;
}

export interface Held {
  what: "held";
  at: string;
  site: string;
  destination: string;
  seq: number;
  awaits: "consent" | "identity";
  needs: string[];
  until: string;
}

export interface Called {
  what: "called";
  at: string;
  site: string;
  destination: string;
  seqs: number[];
  request: string;
  body: string;
  status?: number;
  reply: string;
  milliseconds: number;
}

export type Happening = Accepted | Settled | Held | Called;
export type FeedLine = Happening | { what: "missed"; count: number } | { what: "live" };

export interface EventRow {
  seq: number;
  received_at: string;
  event: string;
  message_id: string;
  visitor: string | null;
  source: string | null;
  page: string | null;
}

export interface VendorCall {
  at: string;
  request: string;
  status: number | null;
  reply: string;
}

export interface DestinationOutcome {
  destination: string;
  outcome: string;
  state: string;
  state_reason: string | null;
  due_at?: string;
  reason?: string;
  detail?: string;
  attempts?: number;
  at?: string;
  dead_letter?: number;
  last_call?: VendorCall | null;
  before?: { outcome: string; reason: string; at: string };
}

export interface EventAnswer {
  site: string;
  seq: number;
  received_at: string;
  event: Json;
  destinations: DestinationOutcome[];
}

export interface Trace {
  id: string;
  site: string;
  /** Null for a trace of a known visitor, or if the site has no address with a name. */
  link: string | null;
  expires_at: string;
  visitor: string | null;
  events: number;
  missed: number;
}

export interface TraceAnswer extends Trace {
  happenings: Happening[];
}

export interface Rehearsal {
  destinations: {
    destination: string;
    outcome: string;
    reason: string | null;
    detail: string | null;
    /** The canonical event after the mapping. */
    mapped: Json;
    request: { method: string; url: string; headers: Record<string, string>; body: string } | null;
    dropped: string[];
    problems: { place: string; problem: string }[];
  }[];
  left_out: number;
}

export interface DeadGroup {
  site: string;
  destination: string;
  reason: string;
  reply: string;
  status: number | null;
  count: number;
  first_at: string;
  last_at: string;
  last_id: number;
  sample_id: number;
}

export interface DeadLetter {
  id: number;
  site: string | null;
  destination: string | null;
  at: string;
  seq: number;
  event: string | null;
  message_id: string | null;
  reason: string;
  detail: string;
  attempts: number;
}

export interface DeadLetterDetails extends DeadLetter {
  last_call: VendorCall | null;
  body: Json;
}

export interface Alert {
  id: number;
  rule: string;
  kind: string;
  site: string | null;
  destination: string | null;
  state: "firing" | "resolved";
  severity: "page" | "ticket";
  title: string;
  text: string;
  link: string;
  since: string;
  resolved_at: string | null;
  value: number;
  limit: number;
  notified: { channel: string; at: string; error: string | null }[];
  acknowledged: { by: string; at: string; note: string | null } | null;
}

export interface AlertRule {
  name: string;
  kind: string;
  site: string | null;
  destination: string | null;
  limit: number;
  window_seconds: number;
  severity: "page" | "ticket";
  channels: string[];
  enabled: boolean;
  source: "default" | "file";
}

export interface SiteOverview {
  site: string;
  hosts: string[];
  accepted: number;
  delivered: number;
  skipped: number;
  dead: number;
  pending: number;
  held: number;
  balanced: boolean;
  oldest_pending_at: string | null;
  events_per_minute: number;
  destinations: {
    destination: string;
    vendor: string;
    state: string;
    reason: string | null;
    pending: number;
    dead: number;
    oldest_pending_at: string | null;
  }[];
  segments: { segment: string; late: boolean; last_run_at: string | null; size: number }[];
  scripts_waiting: number;
  readiness: string[];
  warnings: string[];
  alerts: Alert[];
  has_events: boolean;
  snippet: string;
}

export interface Ledger {
  accepted: number;
  delivered: number;
  skipped: number;
  dead: number;
  pending: number;
  held: number;
}

export interface Destination {
  site: string;
  destination: string;
  vendor: string;
  state: string;
  reason: string | null;
  paused: { by: string; why: string; at: string | null; until: string | null } | null;
  ledger: Ledger;
  oldest_pending_at: string | null;
  oldest_expires_at: string | null;
  latency: { p50_ms: number; p99_ms: number; count: number } | null;
  last_error: { at: string; status: number | null; reply: string; reason: string } | null;
  credentials: "ok" | "refused" | "unknown";
  throttle: { calls_per_second: number | null; waits_until: string | null } | null;
  skip_reasons: { reason: string; count: number; text: string }[];
  counted_since: string;
  age_limit_seconds: number | null;
  mapping: boolean;
  consent: string[];
  /** The end of a sentence about the vendor. */
  repeats: string;
}

export interface DestinationAnswer extends Destination {
  toml: string | null;
}

export interface MatchQuality {
  days: number;
  events: number;
  measured_at: string;
  keys: {
    key: string;
    label: string;
    share: number;
    events: number;
    weight: "high" | "medium" | "low";
    raise: string | null;
  }[];
  dedupe: { share: number | null; raise: string | null };
  consent: { granted: number; denied: number; unknown: number };
  score: number | null;
}

export interface Series {
  step_seconds: number;
  from: string;
  series: { destination: string | null; points: (number | null)[] }[];
}

export interface OutcomeRow {
  destination: string;
  outcome: string;
  reason: string | null;
  text: string | null;
  count: number;
}

export interface ProfileRow {
  id: number;
  names: { kind: string; value: string }[];
  last_seen_at: string | null;
  events: number;
  segments: string[];
}

export interface Tally {
  count: number;
  first: string | null;
  last: string | null;
  sum: number;
}

export interface Person {
  profile: number;
  user_id: string | null;
  identities: { kind: string; value: string; rank: number }[];
  traits: Record<string, Json>;
  first_seen: string | null;
  last_seen: string | null;
  touches: Record<string, Json>;
  device: Record<string, Json>;
  place: Record<string, Json>;
  consent: Record<string, Json>;
  group_id: string | null;
  activity: Record<string, Tally>;
  segments?: string[];
}

export interface SegmentSync {
  destination: string;
  kind: string;
  stand: string;
  list: string | null;
  size: number;
  added: number;
  removed: number;
  left_out: Record<string, number>;
  not_removed: Record<string, number>;
  stuck: number;
  synced_ms: number | null;
  problem: string | null;
}

export interface SegmentRun {
  at_ms: number;
  took_ms: number;
  size: number;
  added: number;
  removed: number;
}

export interface Segment {
  site: string;
  name: string;
  by: string;
  schedule: string;
  where: Json;
  destinations: string[];
  syncs: SegmentSync[];
  is_running: boolean;
  members: number;
  ran: SegmentRun | null;
  due_ms: number | null;
  counting: { is_filled: boolean; share: number; since_ms: number | null } | null;
  is_set_aside: boolean;
  uncounted: string[];
  trend: { at_ms: number; size: number }[];
}

export interface SegmentMember {
  profile: number;
  since: string | null;
  user_id?: string | null;
  traits?: Record<string, Json>;
  error?: string;
}

export interface ScriptVersion {
  hash: string;
  bytes: number;
  age_seconds: number;
}

export interface Script {
  site: string | null;
  vendor: string;
  script: string;
  state: string;
  served: ScriptVersion | null;
  pending: ScriptVersion | null;
}

export interface ScriptDiff {
  served: ScriptVersion | null;
  pending: ScriptVersion;
  diff: string;
  cut: boolean;
}

export interface ReplayPlan {
  count: number;
  dead: number;
  pending: number;
  repeats: string;
}

export interface SettingRow {
  path: string;
  value: Json;
  source: "default" | "file" | "environment";
  file: string | null;
  line: number | null;
  variable: string | null;
  secret: boolean;
  restart: boolean;
  doc: string;
}

/** A refusal of the gateway, or of the network. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly field: string | null = null,
    readonly members: Record<string, Json> = {},
  ) {
    super(detail || title);
  }
}

export type Parameters = Record<string, string | number | boolean | null | undefined>;

export interface Call {
  query?: Parameters;
  body?: unknown;
  signal?: AbortSignal;
}

/** What the rest of the console does about refusals; set at the start. */
export const refusals: {
  /** The caller has no session any more. */
  signedOut: () => void;
  /** Asks for the password again; true if it was right. */
  prove: () => Promise<boolean>;
} = { signedOut: () => {}, prove: () => Promise.resolve(false) };

/** The number of calls under way, for the progress line. */
export const underWay = signal(0);

function address(path: string, query: Parameters = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.set(name, String(value));
  }
  const text = search.toString();
  return `api/v1/${path}${text && `?${text}`}`;
}

/** Joins the parts of a path, which may come from anybody. */
export const parts = (...segments: (string | number)[]): string =>
  segments.map((it) => encodeURIComponent(it)).join("/");

async function problem(response: Response): Promise<Problem> {
  let members: Record<string, Json> = {};
  try {
    members = await response.json() as Record<string, Json>;
  } catch {
    // A proxy's page, or nothing: the status says enough.
  }
  const text = (name: string) => (typeof members[name] === "string" ? members[name] : "");
  const title = text("title") || response.statusText || `HTTP ${response.status}`;
  return new Problem(response.status, title, text("detail") || text("message"), text("field") || null, members);
}

/** Calls the API and returns the response, if it is a success. */
export async function send(method: string, path: string, call: Call = {}): Promise<Response> {
  const init: RequestInit = { method, credentials: "same-origin", cache: "no-store", headers: { Accept: "application/json" } };
  if (call.signal) init.signal = call.signal;
  if (call.body !== undefined) {
    init.body = JSON.stringify(call.body);
    init.headers = { Accept: "application/json", "Content-Type": "application/json" };
  }
  underWay.value++;
  let response: Response;
  try {
    response = await fetch(address(path, call.query), init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "network", "");
  } finally {
    underWay.value--;
  }
  if (response.ok) return response;
  const refusal = await problem(response);
  if (refusal.status === 401 && path !== "session" && path !== "session/prove") refusals.signedOut();
  if (refusal.status === 403 && refusal.field === "proof" && path !== "session/prove") {
    if (await refusals.prove()) return send(method, path, call);
  }
  throw refusal;
}

async function json<T>(method: string, path: string, call?: Call): Promise<T> {
  const response = await send(method, path, call);
  const text = await response.text();
  return (text === "" ? null : JSON.parse(text)) as T;
}

export const api = {
  get: <T>(path: string, query?: Parameters, signal?: AbortSignal) =>
    json<T>("GET", path, { ...(query && { query }), ...(signal && { signal }) }),
  post: <T>(path: string, body: unknown = {}) => json<T>("POST", path, { body }),
  patch: <T>(path: string, body: unknown) => json<T>("PATCH", path, { body }),
  delete: <T>(path: string) => json<T>("DELETE", path),
};

/** Reads pieces of a text as they arrive, until it ends or is aborted. */
export async function* pieces(path: string, query: Parameters, signal: AbortSignal): AsyncGenerator<string> {
  const response = await send("GET", path, { query, signal });
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Reads lines of JSON until the stream ends or is aborted. Empty lines are heartbeats. */
export async function* lines<T>(path: string, query: Parameters, signal: AbortSignal): AsyncGenerator<T[]> {
  let rest = "";
  for await (const piece of pieces(path, query, signal)) {
    const found = (rest + piece).split("\n");
    rest = found.pop() ?? "";
    yield found.filter((it) => it.trim() !== "").map((it) => JSON.parse(it) as T);
  }
}
