"use strict";

/* The slices of the page: choose one of the heat map, and see it acquired, predicted, and the difference. */

class SlicePictures {
  constructor(heat) {
    this.rows = [...heat.querySelectorAll(".cells")].map((row) => [...row.querySelectorAll(".cell")]);
    this.sheets = new Map();
    this.row = 0;
    this.column = 0;
    heat.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.choose(...this.find(cell));
    });
    heat.addEventListener("keydown", (event) => this.key(event));
    element("last").addEventListener("click", () => this.step(-1));
    element("next").addEventListener("click", () => this.step(1));
    element("there").addEventListener("click", () => this.showPlace());
    element("there").hidden = images === null;
    this.rows[0][0].tabIndex = 0;
    this.choose(0, 0, false);
  }

  find(cell) {
    const row = this.rows.findIndex((cells) => cells.includes(cell));
    return [row, this.rows[row].indexOf(cell)];
  }

  get cell() {
    return this.rows[this.row][this.column];
  }

  get known() {
    return page.cells[Number(this.cell.dataset.stack)][Number(this.cell.dataset.place)];
  }

  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!steps[event.key]) return;
    const [down, right] = steps[event.key];
    const row = Math.min(Math.max(this.row + down, 0), this.rows.length - 1);
    this.choose(row, Math.min(Math.max(this.column + right, 0), this.rows[row].length - 1));
    event.preventDefault();
  }

  step(by) {
    let [row, column] = [this.row, this.column + by];
    if (column < 0 && row > 0) [row, column] = [row - 1, this.rows[row - 1].length - 1];
    else if (column >= this.rows[row].length && row + 1 < this.rows.length) [row, column] = [row + 1, 0];
    if (this.rows[row][column]) this.choose(row, column, false);
  }

  async choose(row, column, focus = true) {
    this.cell.tabIndex = -1;
    this.cell.removeAttribute("aria-current");
    [this.row, this.column] = [row, column];
    this.cell.tabIndex = 0;
    this.cell.setAttribute("aria-current", "true");
    if (focus) this.cell.focus();
    const known = this.known;
    const facts = element("facts");
    facts.replaceChildren();
    for (const [name, value] of known.facts) {
      for (const [tag, text] of [["dt", name], ["dd", value]]) {
        facts.append(Object.assign(document.createElement(tag), { textContent: text }));
      }
    }
    element("slice").hidden = false;
    await this.draw(this.cell.dataset.stack, known.slice);
  }

  async sheet(stack) {
    if (!this.sheets.has(stack)) {
      const picture = new Image();
      picture.src = page.sheets[stack].png;
      await picture.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      this.sheets.set(stack, context);
    }
    return this.sheets.get(stack);
  }

  async draw(stack, slice) {
    const known = page.sheets[stack];
    if (!known || !known.boxes[slice]) return;
    const context = await this.sheet(stack);
    const [left, top, width, height] = known.boxes[slice];
    const acquired = context.getImageData(left, top, width, height);
    const predicted = context.getImageData(left, top + known.below, width, height);
    const difference = new ImageData(width, height);
    for (let i = 0; i < difference.data.length; i += 4) {
      const known = predicted.data[i] > 0;
      const part = !known ? 0 : Math.max(-1, Math.min(1, (acquired.data[i] - predicted.data[i]) / 64));
      const colour = part > 0 ? [230, 159, 0] : [86, 180, 233];
      for (let c = 0; c < 3; c += 1) difference.data[i + c] = Math.abs(part) * colour[c];
      difference.data[i + 3] = 255;
    }
    for (const [id, image] of Object.entries({ acquired, predicted, difference })) {
      const canvas = element(id);
      [canvas.width, canvas.height] = [width, height];
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
  }

  async showPlace() {
    if (!images) return;
    element("image").value = page.layers[0].key;
    await images.update();
    images.moveTo(this.known.centre);
    element("viewer").scrollIntoView();
    element("first").focus({ preventScroll: true });
  }
}

const heat = element("heat");
const slicePictures = heat ? new SlicePictures(heat) : null;
