"""Rules of style of a sweep's page, and its one script: a click on a heading sorts the table."""

STYLE = """
:root { --s0: #0072b2; --s1: #c44d00; --s2: #007a59; --s3: #a83c85; --s4: #8a6500; --s5: #454c54; }
@media (prefers-color-scheme: dark) { :root { --s0: #62b8f0; --s1: #ff9a4d; --s2: #35c79b; --s3: #ee8fcb;
  --s4: #e8c63f; --s5: #c3cad2; } }
h3 { font-size: 1rem; margin: .8rem 0 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: .2rem 2rem; }
.charts figure { min-width: 0; }
.charts figcaption { overflow-wrap: anywhere; max-width: 34rem; }
svg .axis { font-size: 11px; } svg .on-dark { fill: #fff; font-size: 10px; } svg .on-light { fill: #1b1f24; font-size: 10px; }
svg .empty { fill: var(--soft); }
svg .front { stroke-width: 1.4; opacity: .9; }
svg .dot { opacity: .4; } svg .dots { fill: none; stroke-width: 3; stroke-linecap: round; opacity: .35; }
.dots.series0, .whisker.series0 { stroke: var(--s0); } .dots.series1, .whisker.series1 { stroke: var(--s1); }
.dots.series2, .whisker.series2 { stroke: var(--s2); } .dots.series3, .whisker.series3 { stroke: var(--s3); }
.dots.series4, .whisker.series4 { stroke: var(--s4); } .dots.series5, .whisker.series5 { stroke: var(--s5); }
svg .whisker { stroke-width: 1.6; opacity: .75; }
.legend .key.wide { width: 24px; }
.reference { stroke: var(--dim); stroke-width: 1.2; stroke-dasharray: 5 3; }
pre { overflow-x: auto; background: var(--soft); border-radius: 6px; padding: .6rem .8rem; font-size: .8125rem; }
summary { cursor: pointer; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.scroll:has(.sortable) { max-height: 75vh; }
.sortable th { position: sticky; top: 0; z-index: 1; white-space: nowrap; }
.sortable th:first-child { z-index: 2; }
td:first-child { min-width: 6.5rem; overflow-wrap: anywhere; }
@media (min-width: 56rem) { td:first-child { max-width: 20rem; overflow-wrap: break-word; }
  td:first-child wbr { display: none; } }
.sortable th button { all: unset; cursor: pointer; font-weight: 600; }
.sortable th button::after { content: " ↕"; color: var(--dim); font-weight: 400; }
.sortable th[aria-sort="ascending"] button::after { content: " ↑"; color: var(--ink); }
.sortable th[aria-sort="descending"] button::after { content: " ↓"; color: var(--ink); }
.sortable th button:focus-visible { outline: 2px solid var(--s0); outline-offset: 2px; }
"""

# Without it the page reads the same, in the order of the rows. Empty cells stay at the end whichever way. Neither "less than"
# nor "and" signs, so that the page is well-formed XML too.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.ariaSort === "descending" || (head.ariaSort === null ? !head.classList.contains("number") : false);
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => {
        const cell = row.cells[column];
        if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
        return cell.textContent === "" ? null : cell.textContent;
      };
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (x === null || y === null) return (x === null ? 1 : 0) - (y === null ? 1 : 0);
        const order = typeof x === "number" ? (typeof y === "number" ? x - y : -1) : String(x).localeCompare(String(y));
        return up ? order : -order;
      };
      body.append(...Array.from(body.rows).sort(compare));
    });
  });
}
"""
