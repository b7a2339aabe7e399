"use strict";
(() => {
  const body = document.querySelector("tbody");
  const rows = [...body.rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const grades = [...document.querySelectorAll("button.grade")];

  function show() {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = new Set(grades.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.grade));
    let count = 0;
    rows.forEach((row, i) => {
      const fits = wanted.every((word) => texts[i].includes(word)) && (!pressed.size || pressed.has(row.dataset.grade));
      row.hidden = !fits;
      count += fits;
    });
    shown.textContent = count === rows.length ? "" : `${count} of ${rows.length} shown`;
  }

  function key(row, column, kind) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return kind === "number" ? (text === "" ? NaN : Number.parseFloat(text)) : text.toLowerCase();
  }

  function compare(a, b) {
    if (typeof a === "string") return a.localeCompare(b, undefined, { numeric: true });
    // What is not known comes last in either order.
    if (Number.isNaN(a) || Number.isNaN(b)) return null;
    return a - b;
  }

  document.querySelectorAll("thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      document.querySelectorAll("[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keys = new Map(rows.map((row) => [row, key(row, head.cellIndex, button.dataset.kind)]));
      const sorted = [...rows].sort((x, y) => {
        const a = keys.get(x), b = keys.get(y), order = compare(a, b);
        if (order === null) return Number.isNaN(a) - Number.isNaN(b);
        return down ? -order : order;
      });
      body.append(...sorted);
    });
  });
  grades.forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    show();
  }));
  filter.addEventListener("input", show);
})();
