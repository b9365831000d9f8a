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
  /** Whether each page is reported by itself. */
  page?: boolean;
  /** Whether nothing is sent or stored before consent() was called. */
  waitForConsent?: boolean;
  shims?: Record<string, Properties>;
  /** The vendors whose own libraries run in the page, and what those need to know. */
  clients?: Record<string, unknown>;
  /** The site's own functions. */
  integrations?: unknown[];
  /** Whether there are drafts for browsers that have a token. */
  preview?: boolean;
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
