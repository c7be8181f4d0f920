// Sorting and switching only; without it every number is on the page all the same.
document.documentElement.classList.add("scripted");
for (const group of document.querySelectorAll("[data-switch]")) {
  const apply = () => {
    const chosen = group.querySelector("input:checked").value;
    if (group.dataset.switch === "statistic") {
      document.querySelector("table.scores").dataset.statistic = chosen;
    } else {
      for (const panel of document.querySelectorAll("[data-panel]")) {
        panel.classList.toggle("chosen", panel.dataset.panel === chosen);
      }
    }
  };
  group.addEventListener("change", apply);
  apply();
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const lower = head.dataset.lower !== "0";
      const next = { none: "best", best: "worst", worst: "none" }[head.dataset.order || "none"];
      for (const other of table.tHead.rows[0].cells) {
        other.dataset.order = "none";
        other.removeAttribute("aria-sort");
      }
      const effective = index === 0 ? "none" : next;
      head.dataset.order = effective;
      const rows = [...original];
      if (effective !== "none") {
        const ascending = (effective === "best") === lower;
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const value = (row) => {
          const raw = row.cells[index].dataset.value;
          return raw === undefined ? (ascending ? Infinity : -Infinity) : Number(raw);
        };
        rows.sort((a, b) => (ascending ? value(a) - value(b) : value(b) - value(a)));
      }
      body.append(...rows);
    });
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
