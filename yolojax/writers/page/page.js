"use strict";
// The page is whole without this: it only sorts tables and lets keys turn pictures.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[table.tBodies.length - 1];
  if (body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const number = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const first = number ? "descending" : "ascending";
      const other = number ? "ascending" : "descending";
      const order = before === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.v;
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");  // unknown ones last
        return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
      };
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      body.append(...[...body.rows].sort(compare));
    });
  });
}
document.addEventListener("keydown", (event) => {
  const open = document.querySelector("figure:target");
  const which = { Escape: "close", ArrowLeft: "before", ArrowRight: "after" }[event.key];
  const link = open && which && open.querySelector("a." + which);
  if (link) { event.preventDefault(); link.click(); }
});
