// Every piece of text in the page whose contrast to its ground is below 4.5 (WCAG 2.2, 1.4.3), by the styles that are in force.
(() => {
  const parts = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { red, green, blue, alpha };
  };
  const over = (top, ground) => {
    const mix = (name) => top[name] * top.alpha + ground[name] * (1 - top.alpha);
    return { red: mix("red"), green: mix("green"), blue: mix("blue"), alpha: 1 };
  };
  const luminance = ({ red, green, blue }) => {
    const linear = (value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (text === "" || element.tagName === "title" || element.getClientRects().length === 0) continue;
    const lineage = [];
    for (let at = element; at !== null; at = at.parentElement) lineage.unshift(getComputedStyle(at));
    let ground = { red: 255, green: 255, blue: 255, alpha: 1 };
    for (const style of lineage) ground = over(parts(style.backgroundColor), ground);
    const style = lineage.at(-1);
    const ink = parts(element instanceof SVGElement ? style.fill : style.color);
    ink.alpha *= lineage.reduce((all, { opacity }) => all * Number(opacity), 1);
    const [dark, light] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${text}`);
  }
  return found;
})()
