// What window.tagway is, for the parts and the vendors' scripts that use it.

export type Properties = Record<string, unknown>;

/** What a caller may say of one message. */
export interface Options {
  messageId?: string;
  timestamp?: string | Date;
  context?: Properties;
  integrations?: Properties;
  anonymousId?: string;
  userId?: string;
  /** What the site's server says to prove that the user of this id is logged in: goes to the gateway only. */
  proof?: string;
  /** The vendor in whose words a shim says it: the gateway puts it into the spec's. */
  shim?: string;
}

/** Called when the gateway has accepted (below 300) or refused the message, with the HTTP status. */
export type Done = (status: number) => void;

export type Kind = "track" | "page" | "identify" | "group" | "alias";

/** A Segment-spec message. "reset" is a mark in the outbox and is never sent as one. */
export interface Message extends Options {
  type: Kind | "reset" | "consent";
  messageId: string;
  event?: string;
  name?: string;
  category?: string;
  groupId?: string;
  previousId?: string;
  properties?: Properties;
  traits?: Properties;
  categories?: Record<string, boolean>;
  /** Never sent: JSON has no functions. */
  done?: Done;
}

export interface Settings {
  /** Where the gateway is: by default where the script came from. */
  endpoint?: string;
  /** Of src/parts/base.ts: the values as JSON holds them. */
  copy<T extends unknown[]>(...values: T): T;
  /** Of src/parts/base.ts: what a message says of the page it is made in. */
  here(): Properties;
  /** Of src/parts/base.ts: calls back at once, or when a page that was rendered in advance is opened. */
  whenSeen(call: () => void): void;
  /** Whether each page is reported by itself. */
  page?: boolean;
  /** Whether a page that comes back from the browser's back/forward cache is reported as well. */
  restored?: boolean;
  /** Whether nothing is sent or stored before consent() was called. */
  waitForConsent?: boolean;
  /** What the shims get, by vendor, if the site said something for one. */
  shims?: Record<string, ShimSettings>;
  /** The vendors whose own libraries run in the page, and what those need to know. */
  clients?: Record<string, unknown>;
  /** The site's own functions. */
  integrations?: unknown[];
  /** Whether there are drafts for browsers that have a token. */
  preview?: boolean;
}

/** The public settings of a vendor's shim. */
export interface ShimSettings {
  /** Where the vendor's scripts are: its own host, or the path of the gateway's mount. */
  from: string;
  [name: string]: string;
}

export interface User {
  id?: string;
  traits?: Properties;
}

export interface Tagway {
  (method: string, ...args: unknown[]): void;
  track(name: string, properties?: Properties, options?: Options, done?: Done): void;
  page(name?: string, properties?: Properties, options?: Options, done?: Done): void;
  identify(userId?: string | Properties, traits?: Properties, options?: Options, done?: Done): void;
  group(groupId: string, traits?: Properties, options?: Options, done?: Done): void;
  alias(userId: string, previousId?: string, options?: Options, done?: Done): void;
  reset(): void;
  consent(categories: Record<string, boolean>): void;
  ready(callback: () => void): void;
  on(name: Message["type"] | "*", callback: (message: Message) => void): () => void;
  user(): User;
  flush(): void;
  settings: Settings;
  /** For shims: see src/shared/stub.ts. */
  serve(
    stub: any,
    own: Record<string, (...args: any[]) => unknown>,
    more?: {
      run?: (call: any[]) => unknown;
      /** The vendor's name of the stub. */
      name?: string;
      marks?: Record<string, unknown>;
      late?: () => void;
    },
  ): () => unknown;
  absent(name: string, method: string): () => void;
  instances(root: any, shim: string, install: (stub: any, config: any, name: string, init: (...args: any[]) => any) => unknown): void;
  fix(object: object, member: string, value: unknown): void;
  moved(callback: () => void, part?: () => string): void;
  gate(isShut?: boolean): { pass(call: () => unknown): void; shut(): void; open(): void };
  safe<T extends (...args: any[]) => unknown>(call: T): T;
  /** For shims: see src/shared/state.ts. */
  keep(name: string, category?: string): [Properties & Record<string, any>, () => void];
  registry(state: any, save: () => void): [() => any, (next: any) => void, Record<string, (...args: any[]) => any>];
  pageAt(address: unknown): Properties;
  isOut(name: string, byDefault: unknown, heeds: unknown): boolean;
  opted(name: string, answer?: boolean | null): boolean | undefined;
  uuid(): string;
  ids: {
    anonymous(id?: string): string;
    session(id?: number): number;
    of(options: Options): any;
  };
  /** For shims: see src/shared/chat.ts. */
  chat(
    src: URL | undefined,
    isShown: boolean,
    start: () => void,
    end: (fault?: unknown) => void,
    finds: () => string | undefined,
  ): (() => void) & { show(is: unknown): void };
  /** The vendors' scripts that are on the page: none comes twice. */
  loaded: Record<string, 1>;
  /** The calls made before the script was there. */
  q?: unknown[][];
}

declare global {
  interface Window {
    tagway: Tagway;
  }
}
