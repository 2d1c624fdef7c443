// What is wrong with a page as it is laid out: what sticks out of it, is cut, covers other words, or is hardly seen.
(() => {
  const page = document.documentElement, wide = page.clientWidth, faults = [];
  const name = (one) => `${one.tagName.toLowerCase()}.${one.className} "${one.textContent.trim().slice(0, 30)}"`;
  const above = function* (one) { for (let p = one; p; p = p.parentElement) yield p; };
  const style = (one) => getComputedStyle(one);
  const shown = (one) => one.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true });
  const forEars = (one) => style(one).clipPath !== "none"; // what only a screen reader tells
  const scrolls = (one) => [...above(one.parentElement)].some((p) => p !== document.body && p !== page &&
    ["auto", "scroll"].includes(style(p).overflowX));
  const inside = (one, line) => [...above(one)].every((p) => style(p).overflowY === "visible" ||
    line.top < p.getBoundingClientRect().bottom && line.bottom > p.getBoundingClientRect().top);

  const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const linear = (c) => (c <= 10.3 ? c / 3294 : ((c / 255 + 0.055) / 1.055) ** 2.4); // WCAG 2's relative luminance
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (one) => {
    for (const p of above(one)) {
      const colour = rgb(style(p).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (one) => {
    const [low, high] = [light(rgb(style(one).color)), light(ground(one))].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };

  if (page.scrollWidth > wide) faults.push(`the page scrolls: ${page.scrollWidth} > ${wide}`);
  const words = [];
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    if (!box.width || !shown(one) || forEars(one)) continue;
    if (box.right > wide + 1 && !scrolls(one)) faults.push(`out of the page: ${name(one)}`);
    const clips = ["hidden", "clip"].includes(style(one).overflowX);
    if (clips && one.scrollWidth > one.clientWidth + 1) faults.push(`cut: ${name(one)}`);
    const own = [...one.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own.length || one.matches("script, style, option, details:not([open])")) continue;
    if (contrast(one) < 4.5 && !one.disabled) faults.push(`hardly seen: ${name(one)}`);
    if ([...above(one)].some((p) => ["sticky", "fixed"].includes(style(p).position))) continue; // made to lie above
    const range = document.createRange();
    for (const text of own) {
      range.selectNodeContents(text);
      for (const line of range.getClientRects()) if (inside(one, line)) words.push([line, one]);
    }
  }
  words.sort(([a], [b]) => a.top - b.top);
  words.forEach(([a, one], at) => {
    for (const [b, other] of words.slice(at + 1)) {
      if (b.top > a.bottom - 3) break;
      const shared = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      if (one !== other && shared > 2) faults.push(`${name(one)} covers ${name(other)}`);
    }
  });
  return faults.slice(0, 9);
})()
