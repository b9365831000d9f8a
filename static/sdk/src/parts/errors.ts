// Errors that nobody caught, at most ten a page: a loop of them is one fact.
let left = 10;
const tell = (message: unknown, source?: string, line?: number, column?: number) => {
  if (left-- <= 0) return;
  const text = String((message && (message as Error).message) || message).slice(0, 200);
  window.tagway.track("Error Occurred", { message: text, source, line, column });
};
addEventListener("error", (event) => tell(event.message, event.filename, event.lineno, event.colno));
addEventListener("unhandledrejection", (event) => tell(event.reason));
