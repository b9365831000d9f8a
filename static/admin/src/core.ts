// What every screen uses: one file of the build, so that a screen loads its own code and nothing twice. The
// compiler holds the names of all these apart.

export * from "preact";
export * from "preact/hooks";
export * from "preact/jsx-runtime";
export * from "@preact/signals";
export * from "./api";
export * from "./format";
export * from "./i18n";
export * from "./keys";
export * from "./resource";
export * from "./router";
export * from "./session";
export * from "./storage";
export * from "./theme";
export * from "./ui/basics";
export * from "./ui/charts";
export * from "./ui/dialog";
export * from "./ui/filters";
export * from "./ui/icons";
export * from "./ui/json";
export * from "./ui/page";
export * from "./ui/preferences";
export * from "./ui/table";
export * from "./ui/toast";
export * from "./words";
