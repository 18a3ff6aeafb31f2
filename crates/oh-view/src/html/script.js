const box = document.getElementById("search");
const found = document.getElementById("found");
const events = [...document.querySelectorAll("details.event")];
const search = () => {
  const text = box.value.toLowerCase();
  let hits = 0;
  for (const event of events) {
    const hit = event.textContent.toLowerCase().includes(text);
    event.hidden = !hit;
    hits += hit ? 1 : 0;
  }
  found.textContent = text ? `${hits} of ${events.length}` : "";
};
box.addEventListener("input", search);
if (location.hash.startsWith("#search=")) {
  box.value = decodeURIComponent(location.hash.slice(8));
  search();
}
