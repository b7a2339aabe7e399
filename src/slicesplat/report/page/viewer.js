"use strict";

/* The images of the page, in NiiVue. All are in one world space: the first image gives the grid, and stays loaded; the
   others are laid over it, one at a time, so that crosshair and field of view stay when another one is chosen. */

const page = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

/* Black in the middle; blue and orange are told apart by people who do not tell red from green. */
const COLOURMAPS = {
  difference: { R: [86, 0, 230], G: [180, 0, 159], B: [233, 0, 0], A: [255, 255, 255], I: [0, 128, 255] },
  region: { R: [0, 230], G: [0, 159], B: [0, 0], A: [0, 255], I: [0, 255] },
};

class Pane {
  /* One canvas: a base image and any overlays. */
  constructor(canvas, layers) {
    this.canvas = canvas;
    this.layers = layers;
    this.windows = new Map(layers.map((layer) => [layer.key, [...layer.window]]));
    this.places = new Map();
    this.base = layers[0].key;
    this.overlays = new Set();
    this.opacity = 0.6;
    this.waiting = Promise.resolve();
    this.viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.34, 0.71, 0.91, 0.8],
      crosshairWidth: 0.6,
      crosshairGap: 8,
      dragAndDropEnabled: false,
      fontSizeScaling: 0.6,
      isCornerOrientationText: true,
      isSliceMM: true,
      loadingText: "",
      logLevel: "error",
      multiplanarShowRender: 0,
      show3Dcrosshair: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
    });
    for (const [name, map] of Object.entries(COLOURMAPS)) this.viewer.addColormap(name, map);
  }

  async start() {
    await this.viewer.attachToCanvas(this.canvas);
    this.viewer.setSliceType(this.viewer.sliceTypeMultiplanar);
    await this.load(this.layers[0].key);
    this.draw();
  }

  layer(key) {
    return this.layers.find((layer) => layer.key === key);
  }

  async load(key) {
    if (this.places.has(key)) return;
    const layer = this.layer(key);
    const [low, high] = this.windows.get(key);
    const image = await niivue.NVImage.loadFromBase64({
      base64: layer.nifti,
      name: `${layer.key}.nii.gz`,
      colormap: layer.colormap,
      opacity: 0,
      cal_min: low,
      cal_max: high,
    });
    image.colorbarVisible = false;
    this.places.set(key, this.viewer.volumes.length);
    this.viewer.addVolume(image);
  }

  /* One after the other, in the order asked for. */
  show(base, overlays) {
    this.base = base;
    this.overlays = new Set(overlays);
    this.waiting = this.waiting.then(async () => {
      for (const key of [this.base, ...this.overlays]) await this.load(key);
      this.draw();
    });
    return this.waiting;
  }

  draw() {
    for (const [key, place] of this.places) {
      const image = this.viewer.volumes[place];
      [image.cal_min, image.cal_max] = this.windows.get(key);
      image.opacity = key === this.base ? 1 : this.overlays.has(key) ? this.opacity : 0;
    }
    this.viewer.updateGLVolume();
  }

  value(key, mm) {
    const place = this.places.get(key);
    if (place === undefined) return NaN;
    const image = this.viewer.volumes[place];
    const [x, y, z] = image.mm2vox([...mm]);
    const [, nx, ny, nz] = image.dimsRAS;
    if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return NaN;
    return image.getValue(x, y, z);
  }

  get place() {
    const [x, y, z] = this.viewer.frac2mm(this.viewer.scene.crosshairPos);
    return [x, y, z];
  }

  /* mm from one voxel to the next. */
  get step() {
    return this.viewer.volumes[0].pixDimsRAS[1];
  }

  moveTo(mm) {
    this.viewer.scene.crosshairPos = this.viewer.mm2frac(mm);
    this.viewer.createOnLocationChange();
    this.viewer.drawScene();
  }

  zoom(factor) {
    const [x, y, z] = this.place;
    const image = this.viewer.volumes[0];
    const middle = image.vox2mm(image.dimsRAS.slice(1, 4).map((n) => n / 2), image.matRAS);
    const share = 1 - 1 / factor;
    this.viewer.setPan2Dxyzmm([share * (middle[0] - x), share * (middle[1] - y), share * (middle[2] - z), factor]);
  }
}

class Images {
  /* The controls, and the one or two panes that they are about. */
  constructor() {
    this.first = new Pane(element("first"), page.layers);
    this.second = null;
    this.scale = 1;
  }

  async start() {
    element("panes").hidden = false;
    await this.first.start();
    element("still").hidden = true;
    this.first.viewer.onLocationChange = () => this.tell();
    this.listen();
    if (page.beside) {
      element("two").checked = true;
      await this.sideBySide();
    }
    this.adjustSliders();
    this.tell();
    document.documentElement.dataset.viewer = "ready";
  }

  get panes() {
    return this.second && element("two").checked ? [this.first, this.second] : [this.first];
  }

  get overlays() {
    return [...document.querySelectorAll("input[name=overlay]:checked")].map((box) => box.value);
  }

  listen() {
    element("image").addEventListener("change", () => this.update());
    element("beside").addEventListener("change", () => this.update());
    element("two").addEventListener("change", () => this.sideBySide());
    document.querySelectorAll("input[name=overlay]").forEach((box) => box.addEventListener("change", () => this.update()));
    element("black").addEventListener("input", () => this.rewindow());
    element("white").addEventListener("input", () => this.rewindow());
    element("zoom").addEventListener("input", () => this.rezoom(Number(element("zoom").value)));
    element("opacity").addEventListener("input", () => {
      this.panes.forEach((pane) => { pane.opacity = Number(element("opacity").value) / 100; pane.draw(); });
    });
    element("reset").addEventListener("click", () => this.reset());
    for (const id of ["first", "second"]) element(id).addEventListener("keydown", (event) => this.key(event));
  }

  async update() {
    await this.first.show(element("image").value, this.overlays);
    if (this.panes.length > 1) await this.second.show(element("beside").value, this.overlays);
    this.adjustSliders();
    this.tell();
  }

  async sideBySide() {
    const two = element("two").checked;
    element("second-pane").hidden = element("beside-label").hidden = !two;
    if (two && !this.second) {
      const beside = element("beside");
      if (beside.selectedIndex === element("image").selectedIndex && beside.options.length > 1) {
        beside.selectedIndex = (element("image").selectedIndex + 1) % beside.options.length;
      }
      this.second = new Pane(element("second"), page.layers);
      await this.second.start();
      this.first.viewer.broadcastTo([this.second.viewer], { "2d": true, "3d": false });
      this.second.viewer.broadcastTo([this.first.viewer], { "2d": true, "3d": false });
    }
    this.panes.forEach((pane) => pane.viewer.resizeListener());
    await this.update();
    if (two) this.second.moveTo(this.first.place);
    this.rezoom(this.scale);
  }

  /* The ends of the sliders are half as far again from those of the image's own window. */
  range(layer) {
    const [low, high] = layer.window;
    return [low - (layer.signed ? 0.5 * (high - low) : 0), high + 0.5 * (high - low)];
  }

  adjustSliders() {
    const layer = this.first.layer(this.first.base);
    const [low, high] = this.range(layer);
    const place = (value) => Math.round((1000 * (value - low)) / (high - low));
    const [black, white] = this.first.windows.get(layer.key);
    element("black").value = place(black);
    element("white").value = place(white);
  }

  rewindow() {
    const layer = this.first.layer(this.first.base);
    const [low, high] = this.range(layer);
    const value = (id) => low + (Number(element(id).value) / 1000) * (high - low);
    const black = value("black");
    const white = Math.max(value("white"), black + (high - low) / 1000);
    this.panes.forEach((pane) => { pane.windows.set(layer.key, [black, white]); pane.draw(); });
  }

  rezoom(scale) {
    this.scale = Math.min(Math.max(scale, 1), 6);
    element("zoom").value = this.scale;
    this.panes.forEach((pane) => pane.zoom(this.scale));
  }

  reset() {
    for (const pane of this.panes) {
      for (const layer of page.layers) pane.windows.set(layer.key, [...layer.window]);
      pane.draw();
    }
    this.rezoom(1);
    this.adjustSliders();
  }

  choose(step) {
    const select = element("image");
    select.selectedIndex = (select.selectedIndex + step + select.options.length) % select.options.length;
    return this.update();
  }

  /* The acquired stack instead of the predicted one, or the other way round. */
  swap() {
    const [kind, number] = this.first.base.split("-");
    const other = { stack: "predicted", predicted: "stack", a: "b", b: "a" }[kind];
    const key = number === undefined ? other : `${other}-${number}`;
    if (!page.layers.some((layer) => layer.key === key)) return;
    element("image").value = key;
    this.update();
  }

  key(event) {
    const pane = event.currentTarget.id === "second" ? this.second : this.first;
    const moves = {
      ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1],
      PageUp: [0, 1, 0], PageDown: [0, -1, 0],
    };
    const others = {
      "+": () => this.rezoom(1.25 * this.scale), "-": () => this.rezoom(this.scale / 1.25),
      n: () => this.choose(1), b: () => this.choose(-1), p: () => this.swap(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) pane.moveTo(pane.place.map((mm, axis) => mm + pane.step * moves[event.key][axis]));
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveTo(mm) {
    this.panes.forEach((pane) => pane.moveTo(mm));
    this.rezoom(this.scale);
  }

  tell() {
    const mm = this.first.place;
    const told = [this.first.base, ...this.first.overlays].map((key) => {
      const layer = this.first.layer(key);
      const value = this.first.value(key, mm);
      return `${layer.label} ${Number.isFinite(value) ? Number(value.toPrecision(4)) : "–"}${layer.unit && ` ${layer.unit}`}`;
    });
    /* Rounded first, and 0 added: there is no place -0.0. */
    const [right, front, up] = mm.map((at) => (Math.round(10 * at) / 10 + 0).toFixed(1));
    element("place").textContent = `right ${right}, front ${front}, up ${up} mm · ${told.join(" · ")}`;
  }
}

let images = null;
if (page.layers.length && document.createElement("canvas").getContext("webgl2")) {
  images = new Images();
  images.start().catch(() => { element("panes").hidden = true; element("still").hidden = false; images = null; });
}
