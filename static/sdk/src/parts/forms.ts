// Forms that are submitted: which one, and never what was written into it.
addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement)) return;
    // A field named "id" or "action" hides the form's own property, so attributes are read.
    const read = (name: string) => form.getAttribute(name) || undefined;
    window.tagway.track("Form Submitted", { id: read("id"), name: read("name"), action: read("action") });
  },
  true,
);
