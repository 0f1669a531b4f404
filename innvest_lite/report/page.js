"use strict";
const overlay = document.getElementById("overlay");
const order = document.getElementById("order");
const choice = document.getElementById("show");
const samples = document.getElementById("samples");
const given = [...samples.children];
const by = {
  given: () => 0,
  surest: (a, b) => b.dataset.confidence - a.dataset.confidence,
  least: (a, b) => a.dataset.confidence - b.dataset.confidence,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
};

overlay?.addEventListener("input", () => {
  document.documentElement.style.setProperty("--overlay", overlay.value / 100);
});
order.addEventListener("change", () => {
  samples.append(...(order.value === "given" ? given : [...given].sort(by[order.value])));
});

choice?.addEventListener("change", () => {
  for (const sample of given) sample.hidden = choice.value !== "all" && sample.dataset.judged !== choice.value;
  const shown = given.filter((sample) => !sample.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${given.length} images are shown`;
});

/* The value at a place: of the 16-bit numbers that the page holds, in units of the largest. */
function show(stack, column, row) {
  const { width, height, limit } = stack.dataset;
  stack.values ??= new DataView(Uint8Array.from(atob(stack.dataset.values), (letter) => letter.charCodeAt(0)).buffer);
  column = Math.min(Math.max(column, 0), width - 1);
  row = Math.min(Math.max(row, 0), height - 1);
  stack.place = [column, row];
  const value = (stack.values.getInt16(2 * (row * width + column), true) / 32767) * limit;
  const mark = stack.querySelector(".mark");
  mark.style.display = "block";
  mark.style.left = `${((column + 0.5) / width) * 100}%`;
  mark.style.top = `${((row + 0.5) / height) * 100}%`;
  stack.parentElement.querySelector("output").textContent = `${value.toPrecision(3)} at ${column}, ${row}`;
}

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
for (const stack of document.querySelectorAll(".stack[data-values]")) {
  stack.addEventListener("pointermove", (event) => {
    const box = stack.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * stack.dataset.width;
    const down = ((event.clientY - box.top) / box.height) * stack.dataset.height;
    show(stack, Math.floor(across), Math.floor(down));
  });
  stack.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    const [column, row] = stack.place ?? [Math.floor(stack.dataset.width / 2), Math.floor(stack.dataset.height / 2)];
    show(stack, column + far * steps[event.key][0], row + far * steps[event.key][1]);
  });
}
