// Sends what gtag.js and fbevents.js were recorded to send, in the same ways.

import fbevents from "../recorded/fbevents.json";
import gtag from "../recorded/gtag.json";

const form = (url, body) => {
  const frame = document.createElement("iframe");
  frame.name = "out";
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", action: url, target: "out" });
  for (const [name, value] of new URLSearchParams(body)) {
    const field = document.createElement("input");
    Object.assign(field, { name, value });
    form.append(field);
  }
  document.body.append(frame, form);
  form.submit();
};

const gtagSends = () => {
  for (const { path, body } of gtag) navigator.sendBeacon(`${window.GATEWAY}/ga4${path}`, body);
};
const fbeventsSends = () => {
  for (const { method, path, body } of fbevents) {
    const url = `${window.GATEWAY}/meta${path}`;
    if (method === "POST") form(url, body);
    else new Image().src = url;
  }
};

window.calls = location.search.includes("gtag") ? gtagSends : fbeventsSends;
