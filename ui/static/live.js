// The live table, the drawer of an event, and search boxes that filter what is loaded.
const drawer = document.getElementById("drawer");

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "drawer-content" && !drawer.open) drawer.showModal();
});

// The table stands still while it is paused, or somebody types in its filters.
function showPause() {
  const button = document.getElementById("pause");
  if (!button) return;
  button.hidden = false;
  const paused = "paused" in document.body.dataset;
  button.textContent = paused ? "Resume" : "Pause";
  button.setAttribute("aria-pressed", String(paused));
}

document.addEventListener("click", (event) => {
  if (event.target.id !== "pause") return;
  if ("paused" in document.body.dataset) delete document.body.dataset.paused;
  else document.body.dataset.paused = "";
  showPause();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const live = event.detail.elt.id === "events" || event.detail.elt.id === "components";
  const busy = event.detail.elt.contains(document.activeElement);
  if (live && (document.hidden || busy || "paused" in document.body.dataset)) event.preventDefault();
});
document.addEventListener("htmx:load", showPause);
showPause();

for (const field of document.querySelectorAll("[data-filter]")) {
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of document.querySelectorAll(field.dataset.filter)) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
