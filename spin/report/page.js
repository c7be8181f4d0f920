// Sorting and switching only; without it every number is on the page all the same.
document.documentElement.classList.add("scripted");
for (const group of document.querySelectorAll("[data-switch]")) {
  const apply = () => {
    const chosen = group.querySelector("input:checked").value;
    if (group.dataset.switch === "statistic") {
      group.parentElement.querySelector("table.scores").dataset.statistic = chosen;
    } else {
      for (const panel of group.parentElement.querySelectorAll(":scope > .panel")) {
        panel.classList.toggle("chosen", panel.dataset.panel === chosen);
      }
    }
  };
  group.addEventListener("change", apply);
  apply();
}
for (const tools of document.querySelectorAll("[data-sorter]")) {
  const table = document.getElementById(tools.dataset.sorter);
  const original = [...table.tBodies[0].rows];
  const [order, metric] = ["order", "metric"].map((name) => tools.querySelector(`[name=${name}]`));
  const apply = () => {
    const gain = (row) => Number.parseFloat(row.dataset.gains.split(" ")[metric.value]); // NaN: not compared
    const sign = order.value === "loss" ? 1 : -1;
    const rows = [...original];
    if (order.value !== "picked") {
      rows.sort((a, b) => Number.isNaN(gain(a)) - Number.isNaN(gain(b)) || sign * (gain(a) - gain(b)) || 0);
    }
    table.tBodies[0].append(...rows);
    for (const told of table.querySelectorAll(".gain")) {
      told.hidden = order.value === "picked" || told.dataset.metric !== metric.value;
    }
    const said = [order, metric].map((field) => field.selectedOptions[0].text);
    tools.querySelector("[role=status]").textContent = order.value === "picked" ? "" : `${said[0]}, by ${said[1]}`;
  };
  tools.addEventListener("change", apply);
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
