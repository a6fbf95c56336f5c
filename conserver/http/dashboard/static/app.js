// Conveniences that need a script. Every page works without this file.

// Shows times in the visitor's time zone. The original time is in the title.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.textContent;
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today
      ? at.toLocaleTimeString(undefined, {hour12: false})
      : at.toLocaleString(undefined, {dateStyle: "medium", timeStyle: "medium", hour12: false});
  }
}

// Shows whether the page is up to date.
function pulse(kind, text) {
  const sign = document.getElementById("pulse");
  if (!sign) return;
  sign.hidden = false;
  sign.className = `pulse ${kind}`;
  sign.textContent = text;
}

document.addEventListener("htmx:sse:after:connection", () => pulse("on", "live"));
document.addEventListener("htmx:sse:after:message", () => {
  pulse("on", "live");
  localTimes(document);
});
document.addEventListener("htmx:sse:error", (event) => {
  pulse("off", "not live");
  if (event.detail.status === 401) location.reload();
});
document.addEventListener("htmx:sse:close", () => pulse("off", "not live"));
document.addEventListener("visibilitychange", () => document.hidden && pulse("", "paused"));
document.addEventListener("gone", () => location.reload());

document.addEventListener("conserver:times", () => localTimes(document));

// Applies a filter as soon as it is chosen.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form) form.requestSubmit();
});

localTimes(document);
