"use strict";
// Sorting, filtering, choice of columns and downloads. Without it the page shows everything, in the order of the plan.
(() => {
  const files = JSON.parse(document.getElementById("files").textContent);
  const PAGE = 100;

  const save = (name, text, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-file]");
    if (!link) return;
    event.preventDefault();
    const path = link.dataset.file;
    const name = path.split("/").pop();
    if (name.endsWith(".svg")) {
      const svg = link.closest("figure").querySelector("svg").cloneNode(true);
      const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
      style.textContent = document.getElementById("figure-style").textContent;
      svg.prepend(style);
      save(name, new XMLSerializer().serializeToString(svg), "image/svg+xml");
    } else {
      save(name, files[path], name.endsWith(".json") ? "application/json" : "text/csv");
    }
  });

  const kept = {
    get(key) { try { return JSON.parse(localStorage.getItem(key)) || []; } catch { return []; } },
    set(key, value) { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* a page from disk may not keep anything */ } },
  };

  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  const text = (row, column) => row.cells[column].textContent;
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = parseFloat(cell.dataset.v ?? cell.textContent);
    return Number.isNaN(number) ? null : number;
  };

  // `column>3` compares a column, anything else has to occur in the row.
  const condition = (word, heads) => {
    const parts = /^(.+?)(>=|<=|>|<)(-?[0-9.]+(?:e-?[0-9]+)?)$/.exec(word);
    const column = parts ? heads.indexOf(parts[1].toLowerCase()) : -1;
    if (column < 0) return (row, all) => all.includes(word.toLowerCase());
    const limit = parseFloat(parts[3]);
    const holds = { ">": (a) => a > limit, "<": (a) => a < limit, ">=": (a) => a >= limit, "<=": (a) => a <= limit }[parts[2]];
    return (row) => { const found = value(row, column); return found !== null && holds(found); };
  };

  const equip = (table) => {
    const body = table.tBodies[0];
    const all = [...body.rows];
    const headCells = [...table.tHead.rows[0].cells];
    const names = headCells.map((cell) => cell.textContent);
    const heads = names.map((name) => name.toLowerCase());
    const contents = new Map();
    let shown = all, start = 0, sorted = { column: -1, down: false };

    const status = make("span", { className: "muted" });
    status.setAttribute("role", "status");
    const back = make("button", { type: "button", textContent: "Previous" });
    const next = make("button", { type: "button", textContent: "Next" });
    const show = () => {
      const rows = shown.slice(start, start + PAGE);
      body.replaceChildren(...rows);
      const of = shown.length === all.length ? `${all.length}` : `${shown.length} of ${all.length}`;
      const range = shown.length > PAGE ? `rows ${start + 1} to ${start + rows.length} of ${of}` : `${of} ${all.length === 1 ? "row" : "rows"}`;
      status.textContent = range;
      back.disabled = start === 0;
      next.disabled = start + PAGE >= shown.length;
    };
    back.addEventListener("click", () => { start = Math.max(0, start - PAGE); show(); });
    next.addEventListener("click", () => { start += PAGE; show(); });

    const input = make("input", { type: "search", placeholder: "words, or column>3" });
    input.setAttribute("aria-label", `Filter the rows of ${table.dataset.name}`);
    const arrange = () => {
      const conditions = input.value.split(/\s+/).filter(Boolean).map((word) => condition(word, heads));
      const content = (row) => {
        if (!contents.has(row)) contents.set(row, row.textContent.toLowerCase());
        return contents.get(row);
      };
      shown = conditions.length ? all.filter((row) => conditions.every((holds) => holds(row, content(row)))) : [...all];
      if (sorted.column >= 0) {
        const keys = new Map(shown.map((row) => [row, [value(row, sorted.column), text(row, sorted.column)]]));
        const sign = sorted.down ? -1 : 1;
        shown.sort((a, b) => {
          const [[x, s], [y, t]] = [keys.get(a), keys.get(b)];
          if (x !== null && y !== null && x !== y) return sign * (x - y);
          if ((x === null) !== (y === null)) return x === null ? 1 : -1;
          return sign * s.localeCompare(t, "en", { numeric: true });
        });
      }
      start = 0;
      show();
    };
    input.addEventListener("input", arrange);

    headCells.forEach((cell, column) => {
      const button = make("button", { type: "button" }, ...cell.childNodes);
      cell.replaceChildren(button);
      cell.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        sorted = { column, down: sorted.column === column && !sorted.down };
        headCells.forEach((other, at) => other.setAttribute("aria-sort", at === column ? (sorted.down ? "descending" : "ascending") : "none"));
        arrange();
      });
    });

    const key = `scaledown ${document.title} ${table.dataset.name}`;
    const hidden = new Set(kept.get(key));
    const style = make("style", {});
    const hide = () => {
      style.textContent = names.map((name, at) => (hidden.has(name) ? `#${table.id} tr > :nth-child(${at + 1}) { display: none; }` : "")).join("\n");
    };
    document.head.append(style);
    hide();
    const boxes = names.map((name) => {
      const box = make("input", { type: "checkbox", checked: !hidden.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(name); else hidden.add(name);
        kept.set(key, [...hidden]);
        hide();
      });
      return make("label", {}, box, ` ${name}`);
    });
    const tools = make("div", { className: "tools" });
    if (all.length > 7) tools.append(input, status);
    if (all.length > PAGE) tools.append(back, next);
    if (names.length > 3) tools.append(make("details", {}, make("summary", { textContent: "Columns" }), make("fieldset", {}, make("legend", { className: "muted", textContent: "Shown" }), ...boxes)));
    table.closest(".scroll").before(tools);
    show();
  };

  document.querySelectorAll("table.data").forEach(equip);
  addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((details) => { details.open = true; }));
})();
