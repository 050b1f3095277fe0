// Instants in the viewer's zone; UTC stays on hover.
const format = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

export function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.textContent = format.format(new Date(time.dateTime));
    time.dataset.local = "";
  }
}

localize(document);
document.addEventListener("htmx:load", (event) => localize(event.detail.elt));
